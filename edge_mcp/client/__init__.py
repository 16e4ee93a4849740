"""The client side: call a server's tools from Python or from the command line."""

from edge_mcp.client.device import Device, connect
from edge_mcp.client.messages import Contents, ListedTool
from edge_mcp.client.result import Result
from edge_mcp.client.subscription import Subscription

__all__ = ["Contents", "Device", "ListedTool", "Result", "Subscription", "connect"]
