"""The server that the official conformance suite wants to see, written on the Python API.

`python tests/conformance/server.py --port N` serves it on http://localhost:N/mcp; `--stdio` to the host that started it.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_mcp import Server


def conformance_server(**settings: Any) -> "Server":
    """A server with every fixture."""
    from edge_mcp import Server
    from tests.conformance import asking, plain, tasks

    server = Server("edge-mcp-conformance", models=False, instructions="Fixtures of the conformance suite.", **settings)
    for fixtures in (plain, asking, tasks):
        fixtures.add(server)
    return server


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--stdio", action="store_true")
    options = parser.parse_args()
    listen = f"127.0.0.1:{options.port}" if options.port is not None else None
    conformance_server().run(stdio=options.stdio, listen=listen)
