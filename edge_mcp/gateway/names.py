"""What the devices' tools are called behind the gateway, and which of them are one: pure.

Every tool has a full name, `PREFIX.TOOL`, which depends on its device and on nothing else. Tools of one model (its name,
version and digest, and how it is used) with one definition are one tool, of the name that it has on the devices. What was once
behind a name stays behind it: what means something else is held back until the owner confirms it.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from edge_mcp.client.messages import ListedTool
from edge_mcp.repository.semver import precedence

MAX_NAME = 64
"""What hosts take."""
MAX_NAMES = 8192
"""Names whose meaning is remembered; tools with others are held back then."""
MAX_OF_DEVICE = 1000
"""Of them those of one device, so that it takes no others' place."""
MAX_VERSIONS = 16
MODEL = "io.edge-mcp/model"
_MAX_PREFIX = 40
_VALID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Meaning(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is behind a name: the hash of the tool's definition; of a model its name, and the digest of each version."""

    definition: str
    model: str = ""
    versions: dict[str, str] = {}

    def fits(self, known: "Meaning") -> bool:
        """Whether this is what was known, or another version of that."""
        same = (self.definition, self.model) == (known.definition, known.model)
        return same and all(known.versions.get(version, digest) == digest for version, digest in self.versions.items())


class Memory(msgspec.Struct, omit_defaults=True):
    """What was behind which name; `pending` is what wants to be there instead. `prefixes` lead to the devices' ids."""

    prefixes: dict[str, str] = {}
    names: dict[str, Meaning] = {}
    pending: dict[str, Meaning] = {}

    def confirm(self, name: str) -> list[str]:
        """What is pending for a name, or for a tool of this name on any device, counts from now on; the names."""
        chosen = [full for full in self.pending if name in (full, full.partition(".")[2], "all")]
        for full in chosen:
            self.names[full] = self.pending.pop(full)
        return chosen


@dataclass(frozen=True, slots=True)
class Offer:
    """A device: `by_hand` if its name was given by the user."""

    id: str
    name: str
    tools: Sequence[ListedTool]
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class Named:
    """A tool: `tool` is how its devices have it. Only what is `listed` is shown; the others are called by who knows them."""

    name: str
    tool: ListedTool
    devices: tuple[str, ...]
    listed: bool = True


@dataclass(slots=True)
class Names:
    """All tools by name. `held` says why a name is in quarantine, `apart` why a tool of a model is on its own."""

    prefixes: dict[str, str] = field(default_factory=dict)
    """By the device's id."""
    tools: dict[str, Named] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    apart: dict[str, str] = field(default_factory=dict)
    known: Counter[str] = field(default_factory=Counter)
    """How many names are remembered, by prefix."""


@dataclass(frozen=True, slots=True)
class _One:
    """A tool of a device that may be one with others."""

    device: str
    full: str
    tool: ListedTool
    meaning: Meaning
    version: str


def named(devices: Iterable[Offer], memory: Memory) -> Names:
    """The names of all tools, whatever the order of the devices; `memory` learns those that are new."""
    devices = sorted(devices, key=lambda device: device.id)
    names = Names(prefixes(devices, memory), known=Counter(name.partition(".")[0] for name in memory.names))
    pending: dict[str, Meaning] = {}
    ones: dict[str, list[_One]] = {}
    for device in devices:
        prefix = names.prefixes[device.id]
        for tool in {tool.name: tool for tool in reversed(device.tools)}.values():
            full, meaning = joined(prefix, tool.name), meaning_of(tool)
            if full in names.tools or full in names.held:
                names.held[full] = "two tools would have this name"
                names.tools.pop(full, None)
                continue
            if _admitted(full, meaning, memory, names, pending):
                names.tools[full] = Named(full, tool, (device.id,))
            if meaning.model and _VALID.fullmatch(tool.name):
                ones.setdefault(tool.name, []).append(_One(device.id, full, tool, meaning, next(iter(meaning.versions))))
    for name in sorted(ones):
        _join(name, ones[name], memory, names, pending)
    memory.pending = pending
    names.tools = dict(sorted(names.tools.items(), key=lambda item: ("." in item[0], item[0])))
    return names


def _join(name: str, ones: list[_One], memory: Memory, names: Names, pending: dict[str, Meaning]) -> None:
    """Make one tool of those that are the same; of several kinds the one that was known by the name, then the one that most
    devices have, then the newest. What is held back counts only where there is nothing else, and is held back here too."""
    ready = [one for one in ones if one.full in names.tools]
    known = memory.names.get(name)
    if not ready:
        if known is not None and not (new := _kinds(ones)[0][0].meaning).fits(known):
            _admitted(name, new, memory, names, pending)
        return
    kinds = _kinds(ready)
    chosen = next((kind for kind in kinds if known is None or kind[0].meaning.fits(known)), kinds[0])
    if _admitted(name, chosen[0].meaning, memory, names, pending):
        names.tools[name] = Named(name, chosen[0].tool, tuple(one.device for one in chosen))
        for one in chosen:
            names.tools[one.full] = Named(one.full, one.tool, (one.device,), listed=False)
    for one in ready:
        if names.tools[one.full].listed:
            names.apart[one.full] = f"{name} is another model, version or definition of it"


def _kinds(ones: list[_One]) -> list[list[_One]]:
    """Those that are the same together."""
    kinds: dict[tuple[str, str, str, str], list[_One]] = {}
    for one in ones:
        meaning = one.meaning
        kinds.setdefault((meaning.definition, meaning.model, one.version, meaning.versions[one.version]), []).append(one)
    ranked = [kinds[kind] for kind in sorted(kinds)]
    return sorted(ranked, key=lambda kind: (len(kind), precedence(kind[0].version)), reverse=True)


def _admitted(name: str, meaning: Meaning, memory: Memory, names: Names, pending: dict[str, Meaning]) -> bool:
    known = memory.names.get(name)
    if known is not None and not meaning.fits(known):
        names.held[name] = _difference(meaning, known)
        pending[name] = meaning
        return False
    prefix = name.partition(".")[0]
    if known is None and (len(memory.names) >= MAX_NAMES or names.known[prefix] >= MAX_OF_DEVICE):
        most = f"{MAX_NAMES} names" if len(memory.names) >= MAX_NAMES else f"{MAX_OF_DEVICE} names of this device"
        names.held[name] = f"{most} are known already"
        return False
    names.known[prefix] += known is None
    versions = {**(known.versions if known else {}), **meaning.versions}
    latest = dict(list(versions.items())[-MAX_VERSIONS:])
    if known is None or latest != known.versions:
        memory.names[name] = Meaning(meaning.definition, meaning.model, latest)
    return True


def _difference(new: Meaning, known: Meaning) -> str:
    if new.model != known.model:
        return f"it is the model {new.model or 'of no name'} now, and was {known.model or 'no model'}"
    if new.definition != known.definition:
        return "its description or its schema is another one"
    return f"version {' '.join(new.versions)} of the model {new.model} has other content than before"


# Names


def prefixes(devices: Iterable[Offer], memory: Memory) -> dict[str, str]:
    """What the tools' names of each device begin with, by its id; `memory` learns them.

    Of several devices that would have one, who had it keeps it, or else who was named by hand; others get their whole id.
    """
    wanting: dict[str, list[Offer]] = {}
    for device in devices:
        wanting.setdefault(_prefix(device), []).append(device)
    given: dict[str, str] = {}
    for prefix, those in sorted(wanting.items()):
        by_hand = [device.id for device in those if device.by_hand]
        first = by_hand[0] if len(by_hand) == 1 else those[0].id if len(those) == 1 else ""
        owner = memory.prefixes.get(prefix, first)
        for device in those:
            given[device.id] = prefix if device.id == owner else f"{prefix[: _MAX_PREFIX - 17]}-{_hash(device.id, 16)}"
        if len(memory.prefixes) < MAX_NAMES:  # also that it is nobody's
            memory.prefixes[prefix] = owner
    return given


def _prefix(device: Offer) -> str:
    """By what the device is called, and how its id begins, unless its name says that or the user gave it."""
    plain = re.sub(r"[^a-z0-9_-]+", "-", device.name.lower()).strip("-") or "device"
    mark = device.id[:4].lower() if re.fullmatch(r"[0-9a-f]{16}", device.id) else _hash(device.id, 4)
    if ((device.by_hand and plain == device.name.lower()) or plain.endswith(f"-{mark}")) and len(plain) <= _MAX_PREFIX:
        return plain
    return f"{plain[: _MAX_PREFIX - 5]}-{mark}"


def joined(prefix: str, name: str) -> str:
    """The full name: as hosts take it, and another one for another tool."""
    full = f"{prefix}.{name}"
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", full)
    return full if plain == full and len(full) <= MAX_NAME else f"{plain[: MAX_NAME - 13]}-{_hash(full, 12)}"


def _hash(text: str, digits: int) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=(digits + 1) // 2).hexdigest()[:digits]


# Meanings


def meaning_of(tool: ListedTool) -> Meaning:
    """What a tool says that it does."""
    said = [tool.name, tool.title, tool.description, tool.inputSchema, tool.outputSchema, tool.annotations]
    definition = hashlib.blake2b(msgspec.json.encode(said, order="deterministic"), digest_size=16).hexdigest()
    model = tool.model
    if model is None or not model.name or not model.sha256:
        return Meaning(definition)
    used = tool.meta[MODEL].get("manifest", "")
    digest = f"{model.sha256[:64]}-{used[:64]}" if isinstance(used, str) else model.sha256[:64]
    return Meaning(definition, model.name[:200], {model.version[:100]: digest})
