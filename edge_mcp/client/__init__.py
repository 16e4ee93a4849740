"""The client side: call a server's tools from Python or from the command line."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_mcp.client.device import Device, connect
    from edge_mcp.client.messages import Contents, ListedTool
    from edge_mcp.client.result import Result
    from edge_mcp.client.subscription import Subscription

__all__ = ["Contents", "Device", "ListedTool", "Result", "Subscription", "connect"]
_HOMES = {"Contents": "messages", "ListedTool": "messages", "Result": "result", "Subscription": "subscription"}


def __getattr__(name: str) -> object:
    """The Python API, loaded on first use: the bridge does without it, and has to start at once."""
    if name in __all__:
        from importlib import import_module

        return getattr(import_module(f"edge_mcp.client.{_HOMES.get(name, 'device')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
