"""A request as JSON on standard input, an answer as JSON on standard output: `{"result": …}` or `{"error": …, "hint": …}`."""

import os
import sys
from importlib import import_module
from typing import Any

import msgspec

from edge_mcp.errors import EdgeError

# tool -> module:function; it takes the request's fields by name. What is not asked for is never imported.
TOOLS = {
    "paint": "paint:paint",
    "quantize": "quantize:quantize",
}


def main(tool: str) -> None:
    """Do what is asked, and answer."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no part of the answer
    request = msgspec.json.decode(sys.stdin.buffer.read())
    answers.write(msgspec.json.encode(_answer(tool, request)))
    answers.close()


def _answer(tool: str, request: dict[str, Any]) -> dict[str, Any]:
    module, _, function = TOOLS[tool].partition(":")
    try:
        return {"result": getattr(import_module(f"edge_mcp.workshop.{module}"), function)(**request)}
    except EdgeError as error:
        return {"error": error.message, "hint": error.hint}
    except MemoryError:
        return {"error": "the device has not enough free memory for this", "hint": "Do it on a larger one, and copy the model"}


if __name__ == "__main__":
    main(sys.argv[1])
