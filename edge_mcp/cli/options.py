"""What the commands' parsers have in common."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors."""

    def __init__(self, command: str, description: str, example: str) -> None:
        super().__init__(
            prog=f"edge-mcp {command}".strip(),
            description=description,
            epilog=f"example:\n  {example}",
            # Without a width argparse imports shutil, and with it three compression libraries, at every start.
            formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=100),
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """One line, and where to read more; ends the process with status 2."""
        self.exit(2, f"edge-mcp: {message}. See {self.prog} --help\n")

    def add_models(self) -> None:
        """Which models, and which settings."""
        self.add_argument("--models", metavar="DIR", action="append", help="folder of models; may be repeated")
        self.add_config()

    def add_config(self) -> None:
        """Which settings."""
        self.add_argument(
            "--config",
            metavar="FILE",
            type=Path,
            help="settings (default: edge-mcp.toml here, in ~/.config/edge-mcp or in /etc/edge-mcp)",
        )

    def add_debug(self) -> None:
        """Tracebacks."""
        self.add_argument("--debug", action="store_true", help="log everything, and show tracebacks")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Options and positionals in any order. Raises: SystemExit."""
        return self.parse_intermixed_args(words)
