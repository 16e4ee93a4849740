"""`edge-mcp models list` and `show`: what is on disk, without starting a runtime."""

import argparse
import hashlib
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from edge_mcp.cli.models.named import named, print_json
from edge_mcp.cli.options import Parser
from edge_mcp.cli.render import printable, table
from edge_mcp.config import cache_folder, load
from edge_mcp.repository.inputs import TensorInput
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.origin import Origin, origin
from edge_mcp.repository.signatures import Signatures
from edge_mcp.repository.store import Entry, Store, look
from edge_mcp.tools.arguments import input_schema
from edge_mcp.tools.results import output_schema


def parser(action: str) -> Parser:
    """The action's options."""
    if action == "show":
        parser = Parser("models show", "Show one model, by its own name or its tool's.", "edge-mcp models show object-detector")
        parser.add_argument("name", metavar="NAME", help="the model to show")
    else:
        parser = Parser("models list", "List the models.", "edge-mcp models list --json")
    parser.add_models()
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_debug()
    return parser


def run(options: argparse.Namespace) -> int:
    """List or show. Raises: EdgeError."""
    logging.basicConfig(format="edge-mcp: %(message)s")
    config = load(options.config, {"models": options.models})
    store = look(config.model_folders())
    if options.action == "show":
        return _show(named(options.name, store), options.json)
    for problem in store.problems:
        print(f"edge-mcp: {printable(problem)}", file=sys.stderr)
    return _list(store, options.json)


def _list(store: Store, as_json: bool) -> int:
    if as_json:
        print_json([_summary(entry) for entry in store.entries])
    elif store.entries:
        print(table([_row(entry) for entry in store.entries], widest=1000))
    else:
        folders = ", ".join(map(str, store.folders))
        print(f"edge-mcp: there are no models in {folders}", file=sys.stderr)
    return 1 if store.problems and not store.entries else 0


def _summary(entry: Entry) -> dict[str, Any]:
    model, about = entry.manifest.model, origin(entry)
    return {
        "tool": entry.manifest.tool.name,
        "model": model.name,
        "version": model.version,
        "kept": list(about.kept),
        "license": model.license,
        "size": _bytes(entry.files),
        "from": about.how,
        "file": str(entry.file),
    }


def _row(entry: Entry) -> dict[str, Any]:
    summary = _summary(entry)
    shown = {"size": _human(summary["size"]), "kept": ", ".join(summary["kept"]) or "-", "file": entry.file.name}
    return {{"license": "licence"}.get(key, key): shown.get(key, value) for key, value in summary.items()}


def _show(entry: Entry, as_json: bool) -> int:
    manifest = entry.manifest
    remembered = Signatures(cache_folder() / "signatures").get(entry.file, manifest.model.signature)
    signature = remembered.signature if remembered else None
    known = signature is not None or not isinstance(manifest.input, TensorInput)
    schema = input_schema(manifest, signature)
    sections: dict[str, Any] = {**_written(manifest), "file": _files(entry), "repository": _origin(origin(entry))}
    if as_json:
        schemas = {"inputSchema": schema if known else None, "outputSchema": output_schema(manifest)}
        print_json({**sections, **schemas, "signature": msgspec.to_builtins(signature)})
        return 0
    for name, section in sections.items():
        parts = section if isinstance(section, list | tuple) else [section]
        for part in parts:
            print(f"[{name}]" if parts == [section] else f"[[{name}]]")
            for key, value in part.items():
                print(f"{key} = {printable(msgspec.json.encode(value).decode())}")
            print()
    print("[arguments]")
    print(
        _arguments(schema)
        if known
        else "They stand in the model file. Start edge-mcp serve once, which reads and remembers them."
    )
    return 0


def _origin(about: Origin) -> dict[str, Any]:
    """Where the model comes from, and what else there is of it; what does not apply is left out."""
    found: dict[str, Any] = {"from": about.how, "source": about.source, "kept": list(about.kept), "highest": about.highest}
    found |= {"refused": about.refused, "waiting": about.waiting}
    return {key: value for key, value in found.items() if value}


def _written(manifest: Manifest) -> dict[str, Any]:
    """The sections as they stand in a `model.toml`: a pipeline has its inputs, outputs and files in its steps alone."""
    sections: dict[str, Any] = msgspec.to_builtins(manifest)
    if manifest.steps:
        sections = {name: section for name, section in sections.items() if name not in ("input", "output")}
        of_step = ("file", "sha256", "signature")
        sections["model"] = {key: value for key, value in sections["model"].items() if key not in of_step}
    return sections


def _files(entry: Entry) -> dict[str, Any] | list[dict[str, Any]]:
    """The model file as it is on disk, and whether it is the one that the manifest means; of a pipeline all of them."""
    files = [_file(path, part.model.sha256) for path, part in zip(entry.files, entry.manifest.parts, strict=True)]
    return files if entry.manifest.steps else files[0]


def _file(path: Path, expected: str) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return {"path": str(path), "problem": f"cannot be read: {error.strerror}"}
    verified = "not checked" if not expected else "as in the manifest" if digest == expected else "NOT as in the manifest"
    size = _bytes([path])
    return {"path": str(path), "bytes": size, "size": _human(size), "sha256": digest, "digest": verified}


def _arguments(schema: dict[str, Any]) -> str:
    """One line for each argument."""
    lines = []
    for name, about in schema["properties"].items():
        kind = about.get("type") or ("tensor" if "anyOf" in about else " or ".join(map(str, about.get("enum", ()))))
        need = ", required" if name in schema["required"] else f", default {about['default']}" if "default" in about else ""
        lines.append(f"{printable(name)} ({kind}{need}): {printable(about.get('description', ''))}")
    return "\n".join(lines)


def _bytes(files: Iterable[Path]) -> int | None:
    try:
        return sum(file.stat().st_size for file in set(files))
    except OSError:
        return None


def _human(size: int | None) -> str:
    if size is None:
        return "missing"
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
