"""`edge-mcp models use` and `remove`: another version of a model, or none."""

import argparse

from edge_mcp.cli.models.kept import kept, prove, say, take_in
from edge_mcp.cli.options import Parser
from edge_mcp.cli.render import printable
from edge_mcp.config import Config, load
from edge_mcp.repository.entry import Entry
from edge_mcp.repository.versions import Versions


def parser(action: str) -> Parser:
    """The action's options."""
    if action == "use":
        parser = Parser(
            "models use",
            "Make another version of a model the active one: one that is kept, or the one that was dropped in.\n"
            "A server that runs follows by itself.",
            "edge-mcp models use bird-detector 1.0.0 --allow-downgrade",
        )
        parser.add_argument("name", metavar="NAME", help="the model, or its tool")
        parser.add_argument("version", metavar="VERSION", help="its version, as edge-mcp models list shows it")
        parser.add_argument("--allow-downgrade", action="store_true", help="also below the highest version that was active")
    else:
        parser = Parser(
            "models remove",
            "Remove a model with all its versions, and the folder or file that was dropped in; or one of its versions.",
            "edge-mcp models remove bird-detector",
        )
        parser.add_argument("name", metavar="NAME", help="the model, or its tool")
        parser.add_argument("version", metavar="VERSION", nargs="?", default="", help="only this version, which is not active")
    parser.add_models()
    parser.add_debug()
    return parser


def run(options: argparse.Namespace) -> int:
    """Use or remove. Raises: EdgeError."""
    config = load(options.config, {"models": options.models})
    versions, name = kept(config, options.name, options.action)
    if options.action == "use":
        say(_use(config, versions, name, options), "using", versions.repository)
        return 0
    deleted = versions.remove(name, options.version)
    what = f"{name} {options.version}" if options.version else name
    with_source = f", and deleted {', '.join(map(str, deleted))}" if deleted else ""
    print(printable(f"removed {what} from {versions.repository}{with_source}"))
    return 0


def _use(config: Config, versions: Versions, name: str, options: argparse.Namespace) -> Entry:
    if entry := versions.kept(name, options.version):
        prove(entry, options.debug)
    elif staged := versions.staged_of(name, options.version):
        return take_in(config, versions, staged, options.allow_downgrade, options.debug)
    return versions.use(name, options.version, options.allow_downgrade)
