"""Judges what a server sends by the schema of the protocol's revision."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

LEGACY, MODERN = "2025-11-25", "2026-07-28"
RESULTS = {
    "initialize": "InitializeResult",
    "server/discover": "DiscoverResult",
    "tools/list": "ListToolsResult",
    "tools/call": "CallToolResult",
    "resources/list": "ListResourcesResult",
    "resources/templates/list": "ListResourceTemplatesResult",
    "resources/read": "ReadResourceResult",
    "prompts/list": "ListPromptsResult",
    "prompts/get": "GetPromptResult",
    "completion/complete": "CompleteResult",
    "subscriptions/listen": "SubscriptionsListenResult",
}
"""By the request's method; any other has no fields of its own."""
ERRORS = {
    -32700: "ParseError",
    -32600: "InvalidRequestError",
    -32601: "MethodNotFoundError",
    -32602: "InvalidParamsError",
    -32603: "InternalError",
    -32020: "HeaderMismatchError",
    -32021: "MissingRequiredClientCapabilityError",
    -32022: "UnsupportedProtocolVersionError",
}
TASK: dict[str, Any] = {
    "type": "object",
    "required": ["resultType", "taskId", "status", "createdAt", "lastUpdatedAt", "ttlMs"],
    "properties": {
        "taskId": {"type": "string"},
        "status": {"enum": ["working", "input_required", "completed", "failed", "cancelled"]},
        "statusMessage": {"type": "string"},
        "createdAt": {"type": "string", "format": "date-time"},
        "lastUpdatedAt": {"type": "string", "format": "date-time"},
        "ttlMs": {"type": ["integer", "null"]},
        "pollIntervalMs": {"type": "integer"},
        "inputRequests": {"$ref": "#/$defs/InputRequests"},
        "result": {"type": "object"},
        "error": {"$ref": "#/$defs/Error"},
    },
    "allOf": [
        {
            "if": {"properties": {"status": {"const": status}}},
            "then": {"required": [field]},
            "else": {"not": {"required": [field]}},
        }
        for status, field in [("completed", "result"), ("failed", "error"), ("input_required", "inputRequests")]
    ],
}
"""A task of the extension io.modelcontextprotocol/tasks, which no schema describes; its notifications have no resultType."""


class Judge:
    """Remembers which request has which method, and judges every message of the server's in one revision."""

    def __init__(self, revision: str) -> None:
        self.seen: set[str] = set()
        """What kinds of messages there were: results by their request's method, notifications and requests, error codes."""
        self._modern = revision == MODERN
        self._definitions = json.loads((Path(__file__).parent / f"{revision}.json").read_text())["$defs"]
        self._methods: dict[str | int, str] = {}

    def sent(self, message: dict[str, Any]) -> None:
        """Note a request to the server."""
        if "method" in message and "id" in message:
            self._methods[message["id"]] = message["method"]

    def received(self, frame: bytes | str) -> dict[str, Any]:
        """A message of the server's. Raises: AssertionError when the schema does not allow it."""
        message = json.loads(frame)
        self._valid("JSONRPCMessage", message)
        if "error" in message:
            code = message["error"]["code"]
            self._valid("JSONRPCErrorResponse", message)
            if self._modern:
                whole = "jsonrpc" in self._definitions[ERRORS[code]]["properties"]
                self._valid(ERRORS[code], message if whole else message["error"])
            self._see(f"error {code}")
        elif "result" in message:
            self._result(self._methods[message["id"]], message["result"])
        elif "id" in message:
            assert not self._modern, f"a request from the server: {message}"
            self._valid("ServerRequest", message)
            self._see(message["method"])
        else:
            self._notification(message)
        assert isinstance(message, dict)
        return message

    def _result(self, method: str, result: dict[str, Any]) -> None:
        kind = result.get("resultType", "complete")
        assert ("resultType" in result) == self._modern, result
        if kind == "input_required":
            assert "inputRequests" in result or "requestState" in result
            self._valid("InputRequiredResult", result)
        elif kind == "task" or method == "tasks/get":
            self._task(result)
        else:
            assert kind == "complete", result
            self._valid(RESULTS.get(method, "EmptyResult"), result)
        self._see(f"{method} {kind}")

    def _notification(self, message: dict[str, Any]) -> None:
        if message["method"] == "notifications/tasks":
            self._task({"resultType": "", **message["params"]})
        else:
            self._valid("ServerNotification", message)
        self._see(message["method"])

    def _task(self, task: dict[str, Any]) -> None:
        self._check(TASK, task)
        if "result" in task:
            self._valid("CallToolResult", {"resultType": "complete", **task["result"]})

    def _valid(self, definition: str, value: Any) -> None:
        self._check({"$ref": f"#/$defs/{definition}"}, value)

    def _check(self, schema: dict[str, Any], value: Any) -> None:
        judge = Draft202012Validator({**schema, "$defs": self._definitions}, format_checker=Draft202012Validator.FORMAT_CHECKER)
        wrong = [f"{error.json_path}: {error.message[:500]}" for error in judge.iter_errors(value)]
        assert not wrong, f"{json.dumps(value)[:2000]}\n" + "\n".join(wrong)

    def _see(self, kind: str) -> None:
        self.seen.add(kind)
