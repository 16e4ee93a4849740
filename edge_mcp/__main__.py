"""`python -m edge_mcp`: the command line."""

from edge_mcp.cli.main import main

main()
