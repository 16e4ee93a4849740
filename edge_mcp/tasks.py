"""Calls that outlive their request: the extension io.modelcontextprotocol/tasks (2026-07-28).

A bounded number of tasks in memory, each with a time to live. A task belongs to the principal that began it.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from edge_mcp.changes import Change, Changes
from edge_mcp.context import Question
from edge_mcp.errors import EdgeError, EngineError, ProtocolError
from edge_mcp.protocol.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS
from edge_mcp.protocol.messages import LogLevel

logger = logging.getLogger(__name__)

MAX_TASKS = 64
TTL_MS = 600_000
POLL_INTERVAL_MS = 1000
TERMINAL = frozenset({"completed", "failed", "cancelled"})

Clock = Callable[[], datetime]
Work = Callable[["Task"], Awaitable[Mapping[str, Any]]]


def now() -> datetime:
    """The time, as tasks are stamped with it."""
    return datetime.now(UTC)


class Task:
    """One task: its state as `tasks/get` shows it, and the questions that it waits for."""

    def __init__(self, task_id: str, principal: str, clock: Clock, tell: Callable[["Task"], None]) -> None:
        self.id = task_id
        self.principal = principal
        self.status = "working"
        self.message = ""
        self.work: asyncio.Task[None] | None = None
        self.ends = 0.0
        self.created = self._updated = clock()
        self._clock = clock
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
            "createdAt": _stamp(self.created),
            "lastUpdatedAt": _stamp(self._updated),
            "ttlMs": TTL_MS,
            "pollIntervalMs": POLL_INTERVAL_MS,
            **({"inputRequests": asked} if asked and self.status not in TERMINAL else {}),
            **self._outcome,
        }

    def become(self, status: str, **outcome: Any) -> None:
        """Change the state, unless it is a terminal one."""
        if self.status not in TERMINAL:
            self.status = status
            self._outcome = outcome
            self._updated = self._clock()
            self._tell(self)

    def say(self, message: str) -> None:
        """Say how far the work is, to who looks."""
        if self.status not in TERMINAL:
            self.message = message
            self._updated = self._clock()

    async def ask(self, known: Mapping[str, dict[str, Any]], questions: Mapping[str, Question]) -> Mapping[str, dict[str, Any]]:
        """The answers: those `known` already, and those that `tasks/update` brings."""
        loop = asyncio.get_running_loop()
        waiting = {key: loop.create_future() for key in questions if key not in known}
        if waiting:
            self._answers |= waiting
            self._questions |= {key: questions[key] for key in waiting}
            self.become("input_required")
            try:
                await asyncio.wait(waiting.values())
            finally:
                self._withdraw(waiting)
        return {key: known[key] if key in known else waiting[key].result() for key in questions}

    def answer(self, responses: Mapping[str, dict[str, Any]]) -> None:
        """Take the answers to open questions; anything else is ignored."""
        for key, response in responses.items():
            if (question := self._questions.get(key)) and question.accepts(response):
                del self._questions[key]
                self._answers.pop(key).set_result(response)
        if self.status == "input_required" and not self._questions:
            self.become("working")

    def cancel(self) -> None:
        """Stop the work; a task that has ended stays as it is."""
        self._questions = {}
        self.become("cancelled")
        if self.work is not None:
            self.work.cancel()

    def _withdraw(self, waiting: Mapping[str, "asyncio.Future[dict[str, Any]]"]) -> None:
        """Take back those questions that nobody waits for any more."""
        for key, future in waiting.items():
            if self._answers.get(key) is future:
                del self._answers[key]
                self._questions.pop(key, None)
        if self.status == "input_required" and not self._questions:
            self.become("working")


class TaskWire:
    """How the context of a task's call reaches the client: its progress is the task's message. See context.Wire."""

    def __init__(self, task: Task) -> None:
        self._task = task

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """See Wire."""
        self._task.say(message or (f"{done:g}" if total is None else f"{done:g} of {total:g}"))

    async def log(self, level: LogLevel, data: Any, logger: str) -> None:
        """See Wire: the request that wanted log messages has been answered."""

    async def hang_up(self, retry_ms: int) -> None:
        """See Wire: there is no stream."""


class Tasks:
    """The tasks there are. `clock` is what they are stamped with; `monotonic`, in seconds, says when they end."""

    def __init__(
        self,
        changes: Changes,
        clock: Clock = now,
        most: int = MAX_TASKS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._changes = changes
        self._clock = clock
        self._most = most
        self._monotonic = monotonic
        self._tasks: dict[str, Task] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, principal: str, work: Work) -> Task:
        """Start `work`; its result, a CallToolResult, is the task's. Raises: EngineError when too many are under way.

        Where there is no room, the oldest task that has ended is forgotten before its time.
        """
        self._sweep()
        if len(self._tasks) >= self._most:
            ended = next((task for task in self._tasks.values() if task.status in TERMINAL), None)
            if ended is None:
                raise EngineError(f"{self._most} tasks are under way already", "Call again when some have ended", TTL_MS)
            del self._tasks[ended.id]
        task = Task(secrets.token_urlsafe(18), principal, self._clock, self._tell)
        task.ends = self._monotonic() + TTL_MS / 1000
        self._tasks[task.id] = task
        task.work = asyncio.create_task(self._run(task, work))
        if self._timer is None or self._timer.when() < asyncio.get_running_loop().time():  # overdue: of a loop that ended
            self._sweep_later()
        return task

    def __len__(self) -> int:
        """Those under way, and those whose outcome is kept."""
        return len(self._tasks)

    def get(self, task_id: str, principal: str) -> Task:
        """A task by its id. Raises: ProtocolError (-32602) when there is none of this principal's."""
        self._sweep()
        task = self._tasks.get(task_id)
        if task is None or task.principal != principal:
            raise ProtocolError(INVALID_PARAMS, "unknown task", {"taskId": task_id[:100]})
        return task

    def owned(self, task_ids: Iterable[str], principal: str) -> list[str]:
        """Those that are this principal's."""
        known = ((task_id, self._tasks.get(task_id)) for task_id in task_ids)
        return [task_id for task_id, task in known if task is not None and task.principal == principal]

    async def close(self) -> None:
        """Stop all work."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        running = [task.work for task in self._tasks.values() if task.work is not None]
        for work in running:
            work.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, task: Task, work: Work) -> None:
        try:
            task.become("completed", result=await work(task))
        except EdgeError as error:
            data = {"data": error.data} if isinstance(error, ProtocolError) and error.data is not None else {}
            task.become("failed", error={"code": error.code, "message": str(error), **data})
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            logger.exception("a task failed unexpectedly")
            task.become("failed", error={"code": INTERNAL_ERROR, "message": "internal error"})

    def _sweep(self) -> None:
        """Forget tasks past their time to live."""
        present = self._monotonic()
        for task in list(self._tasks.values()):
            if present > task.ends:
                task.cancel()
                del self._tasks[task.id]

    def _sweep_later(self) -> None:
        """Sweep now, and again when the oldest task's time is over, also when nobody asks any more: one timer for all."""
        self._sweep()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._tasks:
            left = next(iter(self._tasks.values())).ends - self._monotonic()
            self._timer = asyncio.get_running_loop().call_later(left + 1, self._sweep_later)

    def _tell(self, task: Task) -> None:
        self._changes.tell(Change("notifications/tasks", task=task.state()))


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
