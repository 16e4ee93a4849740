"""Tools that run in a process of their own, started by the command line: `python -m edge_mcp.workshop TOOL`."""
