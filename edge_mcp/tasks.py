"""Calls that outlive their request: the extension io.modelcontextprotocol/tasks (2026-07-28).

A bounded number of tasks in memory, each with a time to live. A task belongs to the principal that began it.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from edge_mcp.changes import Change, Changes
from edge_mcp.context import Question
from edge_mcp.errors import EngineError, ProtocolError
from edge_mcp.protocol.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS

logger = logging.getLogger(__name__)

MAX_TASKS = 64
TTL_MS = 600_000
POLL_INTERVAL_MS = 1000
TERMINAL = frozenset({"completed", "failed", "cancelled"})

Work = Callable[["Task"], Awaitable[Mapping[str, Any]]]


class Task:
    """One task: its state as `tasks/get` shows it, and the questions that it waits for."""

    def __init__(self, task_id: str, principal: str, now: datetime, tell: Callable[["Task"], None]) -> None:
        self.id = task_id
        self.principal = principal
        self.status = "working"
        self.message = ""
        self.work: asyncio.Task[None] | None = None
        self._created = self._updated = now
        self._tell = tell
        self._outcome: dict[str, Any] = {}
        self._questions: dict[str, Question] = {}
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}

    def state(self) -> dict[str, Any]:
        """The fields of a DetailedTask."""
        asked = {key: {"method": question.method, "params": question.params} for key, question in self._questions.items()}
        return {
            "taskId": self.id,
            "status": self.status,
            **({"statusMessage": self.message} if self.message else {}),
            "createdAt": _stamp(self._created),
            "lastUpdatedAt": _stamp(self._updated),
            "ttlMs": TTL_MS,
            "pollIntervalMs": POLL_INTERVAL_MS,
            **({"inputRequests": asked} if asked else {}),
            **self._outcome,
        }

    def become(self, status: str, now: datetime, message: str = "", **outcome: Any) -> None:
        """Change the state, unless it is a terminal one."""
        if self.status not in TERMINAL:
            self.status = status
            self.message = message or self.message
            self._outcome = outcome
            self._updated = now
            self._tell(self)

    async def ask(self, questions: Mapping[str, Question]) -> Mapping[str, dict[str, Any]]:
        """Wait for the answers that `tasks/update` brings."""
        loop = asyncio.get_running_loop()
        self._answers = {key: loop.create_future() for key in questions}
        self._questions = dict(questions)
        self.become("input_required", datetime.now(UTC))
        await asyncio.wait(self._answers.values())
        return {key: answer.result() for key, answer in self._answers.items()}

    def answer(self, responses: Mapping[str, dict[str, Any]]) -> None:
        """Take the answers to some questions; others are ignored."""
        for key, response in responses.items():
            if self._questions.pop(key, None) is not None:
                self._answers[key].set_result(response)
        if self.status == "input_required" and not self._questions:
            self.become("working", datetime.now(UTC))

    def cancel(self) -> None:
        """Stop the work; a task that has ended stays as it is."""
        self._questions = {}
        self.become("cancelled", datetime.now(UTC))
        if self.work is not None:
            self.work.cancel()


class Tasks:
    """The tasks there are."""

    def __init__(self, changes: Changes, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._changes = changes
        self._clock = clock
        self._tasks: dict[str, Task] = {}

    def begin(self, principal: str, work: Work) -> Task:
        """Start `work`; its result, a CallToolResult, is the task's. Raises: EngineError when there are too many."""
        self._sweep()
        if len(self._tasks) >= MAX_TASKS:
            raise EngineError(f"{MAX_TASKS} tasks are kept already", "Try again when some have ended", TTL_MS)
        task = Task(secrets.token_urlsafe(18), principal, self._clock(), self._tell)
        self._tasks[task.id] = task
        task.work = asyncio.create_task(self._run(task, work))
        return task

    def get(self, task_id: str, principal: str) -> Task:
        """A task by its id. Raises: ProtocolError (-32602) when there is none of this principal's."""
        self._sweep()
        task = self._tasks.get(task_id)
        if task is None or task.principal != principal:
            raise ProtocolError(INVALID_PARAMS, "unknown task", {"taskId": task_id[:100]})
        return task

    async def close(self) -> None:
        """Stop all work."""
        running = [task.work for task in self._tasks.values() if task.work is not None]
        for work in running:
            work.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, task: Task, work: Work) -> None:
        try:
            result = await work(task)
            task.become("completed", self._clock(), result=result)
        except ProtocolError as error:
            task.become("failed", self._clock(), error={"code": error.code, "message": error.message})
        except Exception:
            logger.exception("a task failed unexpectedly")
            task.become("failed", self._clock(), error={"code": INTERNAL_ERROR, "message": "internal error"})

    def _sweep(self) -> None:
        """Forget tasks past their time to live."""
        now = self._clock()
        for task in list(self._tasks.values()):
            if (now - task._created).total_seconds() * 1000 > TTL_MS:
                task.cancel()
                del self._tasks[task.id]

    def _tell(self, task: Task) -> None:
        self._changes.tell(Change("notifications/tasks", task=task.state()))


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
