"""`edge-mcp models ACTION …`: one module for each action, loaded when it is asked for."""

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from edge_mcp.cli.options import Parser

# action -> (module, help); a module has `parser(action)` and `run(options)`, as a command has
ACTIONS = {
    "list": ("listing", "list the models (also without an action)"),
    "show": ("listing", "show one model"),
    "add": ("add", "add a model: a file, a folder, or one out of a package"),
    "remove": ("change", "remove a model, or one of its versions"),
    "use": ("change", "make another version of a model the active one"),
    "export": ("carry", "write models into one file, for a device without internet"),
    "import": ("carry", "add the models in such a file"),
    "init": ("init", "write a model.toml for a model file"),
    "bench": ("bench", "measure a model on this device, by batch size and threads"),
    "quantize": ("quantize", "make a model smaller, if its answers stay the same"),
    "check": ("check", "load models, and make the calls that their manifests check them with"),
}


class _Models(Parser):
    """Hands the words on to the action's own parser."""

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """See Parser."""
        action = words[0] if words and not words[0].startswith("-") else "list"
        if words[:1] in (["--help"], ["-h"]):
            self.print_help()
            self.exit()
        if action not in ACTIONS:
            self.error(f"there is no action {action!r}")
        module = import_module(f"edge_mcp.cli.models.{ACTIONS[action][0]}")
        options: argparse.Namespace = module.parser(action).parse(words[1:] if words[:1] == [action] else words)
        options.action, options.module = action, module
        return options


def parser() -> Parser:
    """The command's options."""
    width = max(map(len, ACTIONS)) + 2
    actions = "\n".join(f"  {name:<{width}}{about}" for name, (_, about) in ACTIONS.items())
    described = f"Look after the models of this device.\n\nactions (edge-mcp models ACTION --help says more):\n{actions}"
    models = _Models("models", described, "edge-mcp models show object-detector")
    models.usage = "edge-mcp models [ACTION] …"
    return models


def run(options: Any) -> int:
    """Do what was asked. Raises: EdgeError."""
    status: int = options.module.run(options)
    return status
