"""Many devices as one MCP server."""
