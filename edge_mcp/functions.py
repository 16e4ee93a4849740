"""Python functions that answer calls: what they take, by their type hints, and how they are called."""

import asyncio
import copy
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from edge_mcp.context import Context, InputRequired
from edge_mcp.errors import ArgumentError, ConfigError, EngineError
from edge_mcp.protocol.codec import JSON, Arguments
from edge_mcp.protocol.jsonrpc import UNDECODABLE

REF = "#/$defs/{name}"
MAX_THREADS = 64
"""How many plain functions may run at once, those counted whose callers have left."""

_threads = threading.BoundedSemaphore(MAX_THREADS)


class Function:
    """A function of a user's. Arguments are checked against its type hints; a parameter annotated `Context` gets the call's.

    An async function runs on the event loop, any other in a thread. Raises: ConfigError when no schema can be made of it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.name: str = getattr(function, "__name__", type(function).__name__)
        self.description = _first_paragraph(function)
        self._function = function
        self._on_loop = inspect.iscoroutinefunction(_hinted(function))
        try:
            hints = get_type_hints(_hinted(function), include_extras=True)
        except Exception as error:  # hints that are texts are evaluated
            raise ConfigError(f"the type hints of {self.name} cannot be read: {error}") from error
        self.returns: Any = hints.get("return", Any)
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError) as error:
            raise ConfigError(f"the parameters of {self.name} cannot be read: {error}", "Wrap it in a function") from error
        self._context = next((p.name for p in parameters if _is_context(hints.get(p.name))), None)
        taken = [parameter for parameter in parameters if parameter.name != self._context]
        self._open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken)
        self.parameters = [parameter for parameter in taken if parameter.kind is not parameter.VAR_KEYWORD]
        if wrong := [p.name for p in self.parameters if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)]:
            raise ConfigError(f"{self.name} has the positional parameter {wrong[0]}", "Arguments are passed by name")
        fields = [(parameter.name, hints.get(parameter.name, Any), *_default(parameter)) for parameter in self.parameters]
        try:
            self._arguments = msgspec.defstruct(self.name, fields, kw_only=True, forbid_unknown_fields=not self._open)
        except (TypeError, ValueError, RuntimeError) as error:
            names = ", ".join(parameter.name for parameter in self.parameters)
            raise ConfigError(f"{self.name} cannot take its parameters ({names}): {error}", "Name them otherwise") from error
        self.schema = schema_of(self._arguments, self.name)
        self.schema.pop("title", None)
        self._decoder = msgspec.json.Decoder(self._arguments)
        self._binary = {name for name, schema in self.schema.get("properties", {}).items() if _takes_bytes(schema, self.schema)}

    def decode(self, arguments: Arguments) -> dict[str, Any]:
        """What a client sent as keyword arguments. Raises: ArgumentError."""
        try:
            if arguments.codec is JSON:
                values = _fields(self._decoder.decode(arguments.data or JSON.empty))
                return {**arguments.decode(dict), **values} if self._open else values
            sent = arguments.decode(dict[str, Any])
            # Bytes are for parameters that take bytes; others get what they do from JSON.
            plain = {name: sent[name] if name in self._binary else arguments.codec.plain(sent[name]) for name in sent}
            values = _fields(msgspec.convert(plain, self._arguments, str_keys=True))
            return {**plain, **values} if self._open else values
        except UNDECODABLE as error:
            raise ArgumentError(f"{self.name}: {error}", self._expected()) from None

    def convert(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Texts as keyword arguments. Raises: ArgumentError."""
        try:
            values = _fields(msgspec.convert(texts, self._arguments, strict=False))
            return {**texts, **values} if self._open else values
        except msgspec.ValidationError as error:
            raise ArgumentError(f"{self.name}: {error}", self._expected()) from None

    async def call(self, values: Mapping[str, Any], context: Context | None = None) -> Any:
        """What the function returns, or raises: an Exception, or InputRequired. Raises: EngineError when too many run."""
        more = {self._context: context} if self._context else {}
        if self._on_loop:
            return await guarded(self._function(**values, **more))
        return await _in_thread(partial(self._function, **values, **more))

    def _expected(self) -> str:
        known = [f"{p.name}{'' if p.default is p.empty else ' (optional)'}" for p in self.parameters]
        return f"It takes {', '.join(known)}" if known else "It takes no arguments"


async def guarded(work: Awaitable[Any]) -> Any:
    """Await a user's code. What would end more than it (SystemExit, the cancellation of something else) is a RuntimeError."""
    me = asyncio.current_task()
    try:
        return await work
    except (Exception, InputRequired):
        raise
    except BaseException as raised:
        if _current() is not me:
            raise  # nobody awaits any more: the coroutine is being closed
        if isinstance(raised, asyncio.CancelledError) and me is not None and me.cancelling():
            raise
        raise RuntimeError(repr(raised)) from raised


async def answer_of(function: Callable[..., Any], *values: Any) -> Any:
    """What a user's function, async or not, returns on the event loop; see `guarded`."""

    async def work() -> Any:
        value = function(*values)
        return await value if isinstance(value, Awaitable) else value

    return await guarded(work())


def schema_of(kind: Any, name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a type, with what it refers to in `$defs`. Raises: ConfigError."""
    try:
        (schema,), definitions = msgspec.json.schema_components([kind], ref_template=REF)
    except TypeError as error:
        raise ConfigError(f"no schema can be made of the type hints of {name}: {error}", "Use types that JSON has") from error
    root = next((key for key in definitions if schema == {"$ref": REF.format(name=key)}), None)
    if root is not None:
        schema = definitions[root]
        others = {key: value for key, value in definitions.items() if key != root}
        if REF.format(name=root) in msgspec.json.encode([schema, others]).decode():
            others[root] = definitions[root]  # it refers to itself
        definitions = others
    return {**schema, **({"$defs": definitions} if definitions else {})}


async def _in_thread(function: Callable[[], Any]) -> Any:
    """Run in a thread that cannot keep the process alive, as those of asyncio's executor do when a function hangs.

    A function cannot be stopped: it has its place until it ends, also when its caller has left. Raises: EngineError.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_result(result) if error is None else future.set_exception(error)

    def run() -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = function()
        except BaseException as raised:  # noqa: BLE001 - the caller gets it; an exit of a thread is none of the server's
            fits = isinstance(raised, Exception | InputRequired) and not isinstance(raised, StopIteration)
            error = raised if fits else RuntimeError(repr(raised))
        finally:
            _threads.release()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    if not _threads.acquire(blocking=False):
        raise EngineError("too many plain functions are running", "Call again later")
    try:
        threading.Thread(target=copy_context().run, args=(run,), daemon=True).start()
    except RuntimeError as error:
        _threads.release()
        raise EngineError(f"no thread can be started: {error}", "Call again later") from error
    return await guarded(future)


def _current() -> "asyncio.Task[Any] | None":
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop is running
        return None


def _takes_bytes(schema: Any, whole: Any) -> bool:
    """Whether a parameter of this schema, which may refer to definitions of the `whole`, has bytes in it."""
    encoded = msgspec.json.encode(schema)
    return b'"contentEncoding"' in encoded or (b'"$ref"' in encoded and _takes_bytes(whole.get("$defs"), {}))


def _is_context(hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return set(get_args(hint)) == {Context, NoneType}
    return hint is Context


def _fields(values: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(values, name) for name in values.__struct_fields__}


def _default(parameter: inspect.Parameter) -> tuple[Any, ...]:
    """The default, as a struct's field takes it: each call gets its own copy of one that can be changed."""
    if parameter.default is parameter.empty:
        return ()
    if isinstance(parameter.default, list | dict | set | bytearray) and parameter.default:
        return (msgspec.field(default_factory=lambda: copy.deepcopy(parameter.default)),)
    return (parameter.default,)


def _hinted(function: Any) -> Any:
    """What has the type hints: the function itself, what a partial wraps, or an object's `__call__`."""
    if isinstance(function, partial):
        return _hinted(function.func)
    return function if inspect.isroutine(function) else type(function).__call__


def _first_paragraph(function: Callable[..., Any]) -> str:
    return " ".join((inspect.getdoc(function) or "").split("\n\n", 1)[0].split())
