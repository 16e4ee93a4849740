"""Every error that edge-mcp raises on purpose: one base class that knows how it looks to a peer and to a person."""


class EdgeError(Exception):
    """The base of all deliberate errors; anything else that escapes is a bug.

    `code` is the JSON-RPC error code and `status` the HTTP status when the error has to leave as one
    (a failing tool leaves as a result with `isError` instead). `hint` says what would be right.
    """

    code = -32603
    status = 500

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class ConfigError(EdgeError):
    """A setting, flag or configuration file is wrong."""


class ManifestError(EdgeError):
    """A `model.toml` is missing something or says something impossible."""


class ModelError(EdgeError):
    """A model file cannot be loaded or served: wrong digest, corrupt, unsupported."""


class ArgumentError(EdgeError):
    """A tool argument is missing, unknown, of the wrong type, or cannot be read."""

    code = -32602
    status = 400


class EngineError(EdgeError):
    """The engine process died, hung or cannot be started; the call may be repeated after `retry_after_ms`."""

    status = 503

    def __init__(self, message: str, hint: str = "", retry_after_ms: int | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after_ms = retry_after_ms


class BusyError(EdgeError):
    """A call is not taken now; it may be repeated after `retry_after_ms`. `reason`: deadline, queue, memory, thermal or
    stopping."""

    status = 503

    def __init__(self, message: str, hint: str, retry_after_ms: int, reason: str) -> None:
        super().__init__(message, hint)
        self.retry_after_ms = retry_after_ms
        self.reason = reason


class SensorError(EdgeError):
    """A sensor cannot be read: its device or package is missing, it took too long, or it gave what is no picture or sound."""

    status = 503


class RefusedError(EdgeError):
    """This very request is refused, and repeating it will not help."""

    status = 422


class ChannelError(EdgeError):
    """The channel between server and engine carried something that is no frame: torn, oversized or undecodable."""


class ConnectionClosed(EdgeError):
    """The peer is gone; nothing more can be sent to it."""


class ProtocolError(EdgeError):
    """What leaves as a JSON-RPC error with this code and data, and not as a tool's failure."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class CallError(EdgeError):
    """What a server answered to a client's call: a JSON-RPC error, or a tool result that says it failed."""

    def __init__(self, message: str, hint: str = "", code: int | None = None, data: object = None) -> None:
        super().__init__(message, hint)
        self.data = data
        if code is not None:
            self.code = code


class ToolError(CallError):
    """A tool was called and says that it failed."""


class AwayError(ConnectionClosed):
    """The server cannot be reached, and what was asked of it has not begun."""


class UncertainError(ConnectionClosed):
    """The connection ended before the answer came, and the call was not made again: it may have been made."""


class DeadlineError(EdgeError, TimeoutError):
    """The caller's own time for a call is over."""
