"""The house stands: the imports in the tree obey the map in edge_mcp/README.md, and the map is the tree's."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "edge_mcp"
MAP = PACKAGE / "README.md"
ENGINE = "engine/host/"
WORKSHOP = "workshop/"
DEVICES = "sensors/device/"
NOT_IN_SERVER = {"numpy", "onnxruntime", "ai_edge_litert", "PIL", "soundfile", "soxr", "pymicro_features"}
NOT_IN_ENGINE = {"asyncio", "aiohttp", "zeroconf"}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under `heading` in the map, without its two header lines."""
    section = MAP.read_text("utf-8").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


FLOORS = {room: int(row[0]) for row in rows("Rooms and floors") for room in spans(row[1])}
BESIDE = {room: spans(row[3]) for row in rows("Rooms and floors") for room in spans(row[1])}
ALLOWED = {package: spans(row[1]) for row in rows("Packages and who imports them") for package in spans(row[0])}


def modules() -> list[str]:
    """Every module, as its path below edge_mcp: `engine/host/lane.py`."""
    return sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def within(module: str, room: str) -> bool:
    return module == room or (room.endswith("/") and module.startswith(room))


def room_of(module: str) -> str | None:
    """The most specific room on the map that the module belongs to: itself, or the nearest folder."""
    return max((room for room in FLOORS if within(module, room)), default=None, key=len)


def module_of(name: str) -> str | None:
    """The path of a dotted name inside the package: `edge_mcp.engine.host` -> `engine/host/__init__.py`."""
    path = "/".join(name.split(".")[1:])
    candidates = [f"{path}.py", f"{path}/__init__.py"] if path else ["__init__.py"]
    return next((candidate for candidate in candidates if (PACKAGE / candidate).is_file()), None)


def runs(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that can run: all but what is for the type checker only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from runs(node)


@cache
def imports(module: str, types_too: bool = True) -> frozenset[str]:
    """Dotted names that the module imports anywhere in it; `from edge_mcp.a import b` names `b` where that is a module."""
    tree = ast.parse((PACKAGE / module).read_text("utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree) if types_too else runs(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}:{node.lineno}: write the import in full, not relative"
            assert node.module
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = {name for name in inside if name.startswith("edge_mcp.") and module_of(name)}
            names |= submodules or {node.module}
    return frozenset(names)


def inner(module: str, types_too: bool = True) -> set[str]:
    """The modules of this package that the module imports."""
    names = (name for name in imports(module, types_too) if name.split(".")[0] == "edge_mcp")
    return {path for name in names if (path := module_of(name))}


def outer(module: str, types_too: bool = True) -> set[str]:
    """The top-level packages from elsewhere that the module imports."""
    return {name.split(".")[0] for name in imports(module, types_too)} - {"edge_mcp", "__future__"}


def reached(starts: list[str]) -> set[str]:
    """The modules that are loaded with `starts`, their packages included."""
    found: set[str] = set()
    waiting = list(starts)
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        waiting += inner(module, types_too=False)
        folders = list(Path(module).parents)[:-1]
        waiting += [package for folder in folders if (PACKAGE / (package := f"{folder.as_posix()}/__init__.py")).is_file()]
    return found


def says_something(module: str) -> bool:
    """Whether there is more in the module than a docstring."""
    return any(not isinstance(node, ast.Expr) for node in ast.parse((PACKAGE / module).read_text("utf-8")).body)


def test_every_module_has_a_floor() -> None:
    homeless = [module for module in modules() if says_something(module) and room_of(module) is None]
    assert not homeless, f"not on the map in edge_mcp/README.md: {homeless}"


def test_every_room_on_the_map_exists() -> None:
    missing = [room for room in FLOORS if not (PACKAGE / room).exists()]
    assert not missing, f"edge_mcp/README.md names what is not there: {missing}"
    empty = [room for room in FLOORS if room.endswith("/") and not any(room_of(module) == room for module in modules())]
    assert not empty, f"edge_mcp/README.md names folders without modules: {empty}"


def test_every_folder_is_on_the_map() -> None:
    folders = {module.split("/")[0] + "/" for module in modules() if "/" in module and says_something(module)}
    missing = {folder for folder in folders if not any(room.startswith(folder) for room in FLOORS)}
    assert not missing, f"not on the map in edge_mcp/README.md: {missing}"


def sideways(module: str) -> Iterator[tuple[str, str]]:
    """(room, target) for what the module imports from another folder of its own floor, or from a higher one."""
    here = room_of(module)
    for target in inner(module):
        there = room_of(target)
        if here is None or there is None or FLOORS[there] < FLOORS[here]:
            continue
        same_folder = module.split("/")[0] == target.split("/")[0]
        if FLOORS[there] > FLOORS[here] or not same_folder:
            yield here, target


@pytest.mark.parametrize("module", modules())
def test_imports_point_down(module: str) -> None:
    wrong = [
        f"{module} (floor {FLOORS[here]}) imports {target}"
        for here, target in sideways(module)
        if not any(within(target, room) and FLOORS[room] == FLOORS[here] for room in BESIDE[here])
    ]
    assert not wrong, "\n".join(wrong)


def test_every_exception_on_the_map_is_needed() -> None:
    used = [pair for module in modules() for pair in sideways(module)]
    built = {room_of(module) for module in modules() if says_something(module)}
    for room, exceptions in BESIDE.items():
        for exception in exceptions if {room, *exceptions} <= built else ():
            needed = any(here == room and within(target, exception) for here, target in used)
            assert needed, f"{room} no longer imports {exception}: strike it from edge_mcp/README.md"


def test_there_is_no_import_cycle() -> None:
    try:
        TopologicalSorter({module: inner(module) - {module} for module in modules()}).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("module", modules())
def test_packages_are_imported_only_where_the_map_says(module: str) -> None:
    for package in outer(module) - sys.stdlib_module_names:
        rooms = ALLOWED.get(package)
        assert rooms is not None, f"{module} imports {package}, which edge_mcp/README.md does not list"
        allowed = any(room == "any" or within(module, room) for room in rooms)
        assert allowed, f"{module} imports {package}; edge_mcp/README.md allows that in {rooms}"


def test_packages_on_the_map_are_imported_somewhere() -> None:
    used = set[str]().union(*(outer(module) for module in modules()))
    assert set(ALLOWED) <= used, f"edge_mcp/README.md lists packages that nothing imports: {set(ALLOWED) - used}"


def test_server_never_imports_what_belongs_to_the_engine() -> None:
    server = [module for module in modules() if not module.startswith((ENGINE, WORKSHOP, DEVICES))]
    for module in reached(server):
        assert not module.startswith((ENGINE, WORKSHOP, DEVICES)), f"the server imports {module}"
        assert not outer(module, types_too=False) & NOT_IN_SERVER, f"{module} of the server imports a heavy package"


def test_engine_never_imports_what_belongs_to_the_server() -> None:
    engine = [module for module in modules() if module.startswith(ENGINE)]
    for module in reached(engine):
        assert not outer(module, types_too=False) & NOT_IN_ENGINE, (
            f"{module}, loaded by the engine, imports asyncio or the network"
        )
