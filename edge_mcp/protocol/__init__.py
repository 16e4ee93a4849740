"""The MCP wire, sans-I/O: no loop, clock or socket in it."""
