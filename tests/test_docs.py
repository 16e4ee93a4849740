"""README.md tells the truth: every key, default, flag and command in it is the code's, and none is missing."""

import ast
import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from edge_mcp.config import PREFIX, Config
from edge_mcp.repository.manifest import Manifest, read

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def table(heading: str) -> list[list[str]]:
    """The cells of the table under `heading`, without its two header lines."""
    section = re.split(r"\n##+ ", README.split(f" {heading}\n", 1)[1], maxsplit=1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def default_in(cell: str) -> Any:
    """The TOML value that a table's cell shows; `msgspec.NODEFAULT` where a key is required."""
    return msgspec.NODEFAULT if cell == "required" else tomllib.loads(f"value = {cell.strip('`')}")["value"]


def plain(value: Any) -> Any:
    """As TOML has it: a list for a tuple."""
    return list(value) if isinstance(value, tuple) else value


def manifest_keys() -> dict[tuple[str, str], Any]:
    """(dotted key, the kind or decoder that has it) -> default."""
    keys: dict[tuple[str, str], Any] = {}
    for section in msgspec.structs.fields(Manifest):
        structs = tuple(kind for kind in get_args(section.type) if kind is not ...) or (section.type,)
        for struct in structs:
            tag = struct.__struct_config__.tag if len(structs) > 1 else ""
            for field in msgspec.structs.fields(struct):
                made = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
                keys[f"{section.name}.{field.name}", tag] = plain(made)
        if len(structs) > 1:
            config = structs[0].__struct_config__
            keys[f"{section.name}.{config.tag_field}", ""] = section.default.__struct_config__.tag
    return keys


def test_every_key_of_a_manifest_is_in_the_table() -> None:
    documented = {(row[0].strip("`"), row[1]): default_in(row[2]) for row in table("Every key of `model.toml`")}
    assert documented == manifest_keys()


def test_every_setting_is_in_the_table() -> None:
    documented = {row[0].strip("`"): (row[2].strip("`"), default_in(row[3])) for row in table("Settings")}
    expected = {field.name: (PREFIX + field.name.upper(), plain(field.default)) for field in dataclasses.fields(Config)}
    assert documented == expected


def test_every_shipped_model_is_in_the_table() -> None:
    documented = {row[0].strip("`"): row[3] for row in table("The tools that ship")}
    manifests = [read(file.parent) for file in (ROOT / "models").glob("*/model.toml")]
    assert documented == {manifest.tool.name: manifest.model.license for manifest in manifests}


_PROGRAMS = ("setup", "install", "bundle", "deb", "flash", "card/settings.py")


def test_every_flag_is_in_the_readme() -> None:
    flags: set[str] = set()
    for path in (ROOT / "edge_mcp" / "cli").rglob("*.py"):
        constants = [node.value for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Constant)]
        flags |= {text for text in constants if isinstance(text, str) and re.fullmatch(r"--[a-z][a-z0-9-]+", text)}
    written = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", README))
    assert flags - {"--help"} <= written, "flags that README.md does not mention"
    scripts = "".join((ROOT / "scripts" / name).read_text("utf-8") for name in _PROGRAMS)
    others = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", scripts)) | {"--now", "--user"}  # of systemctl
    others |= {"--ignorefile", "--file", "--tag"}  # of podman
    assert not flags or written - others <= flags, "README.md mentions flags that are not there"


def test_every_command_in_the_readme_exists() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    commands = {line.removeprefix("sudo ").split()[0] for line in lines if line}
    scripts = set(re.findall(r"(?<![\w/])(scripts/[a-z-]+)", README)) | {name for name in commands if "/" in name}
    assert commands - scripts <= {"edge-mcp", "systemctl", "tar", "apt", "podman"}
    for script in scripts:
        assert (ROOT / script).stat().st_mode & 0o111, f"{script} is not executable"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^):]+)\)", README))))
def test_every_link_into_the_tree_leads_somewhere(target: str) -> None:
    assert (ROOT / target).exists()
