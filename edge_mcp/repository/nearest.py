"""What was probably meant where a `model.toml` says something that it cannot say."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

import msgspec

_PLACE = re.compile(r" - at `\$([^`]*)`$")
_OF_STEP = re.compile(r"steps\[(\d+)\]\.((?:input|output)(?:[.\[].*)?)")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_MISSING = re.compile(r"missing required field `([^`]*)`")
_INVALID = re.compile(r"^Invalid (?:enum )?value (?:'(.*)')?", re.DOTALL)
_MAX_LENGTH = 64  # of a word that is compared: difflib takes the square of it


def likely(manifest: type[msgspec.Struct], data: Mapping[str, Any], problem: str) -> str:
    """For msgspec's complaint about `data`, the tables of a `model.toml`: the nearest right key, word or section, if any."""
    place = _PLACE.search(problem)
    path = place[1].strip(".") if place else ""
    if step := _OF_STEP.fullmatch(path):
        data, path = data["steps"][int(step[1])], step[2]
    section = path.split(".")[0].split("[")[0]
    tables = _tables(manifest)
    if unknown := _UNKNOWN.search(problem):
        return _of_unknown(unknown[1], section, tables, data)
    if missing := _MISSING.search(problem):
        return _of_missing(missing[1], section, tables, data)
    if (invalid := _INVALID.search(problem)) and "." in path:
        return _of_value(invalid[1] or "", section, path.split(".")[1], tables)
    return f"Write [[{section}]]" if path == section and "Expected `array`, got `object`" in problem else ""


def _tables(manifest: type[msgspec.Struct]) -> dict[str, tuple[Any, ...]]:
    """Section -> its struct, or its structs where it has kinds."""
    return {field.name: _structs(field.type) for field in msgspec.structs.fields(manifest)}


def _structs(kind: Any) -> tuple[Any, ...]:
    return tuple(part for part in get_args(kind) if part is not ...) or (kind,)


def _of_unknown(key: str, section: str, tables: Mapping[str, tuple[Any, ...]], data: Mapping[str, Any]) -> str:
    if section not in tables:
        return _of_section(key, tables)
    own = [*_tag_field(tables[section]), *_keys(_chosen(tables[section], data.get(section)))]
    if homes := [home for known, home in _homes(tables) if known == key]:
        return f"{key!r} is a key of {' and of '.join(homes)}"
    if near := _near(key, own):
        return f"Did you mean {near!r}?"
    elsewhere = dict(_homes(tables))
    if near := _near(key, list(elsewhere)):
        return f"Did you mean {near!r} of {elsewhere[near]}? {_listed(section, own)}"
    return _listed(section, own)


def _of_section(key: str, tables: Mapping[str, tuple[Any, ...]]) -> str:
    """An unknown section, or a key that stands above the first section."""
    if near := _near(key, list(tables)):
        return f"Did you mean {near!r}?"
    if homes := [home for known, home in _homes(tables) if known == key]:
        return f"{key!r} is a key of {' and of '.join(homes)}"
    return f"The sections are {', '.join(tables)}"


def _of_missing(key: str, section: str, tables: Mapping[str, tuple[Any, ...]], data: Mapping[str, Any]) -> str:
    written = data.get(section, {}) if section else data
    structs = tables.get(section, ())
    known = [*_tag_field(structs), *(name for struct in structs for name in struct.__struct_fields__)]
    strange = [name for name in written if name not in known] if isinstance(written, dict) and section else []
    if meant := next((name for name in strange if _near(name, [key])), None):
        return f"Did you mean {key!r} where it says {meant[:_MAX_LENGTH]!r}?"
    if key in _tag_field(structs):
        return f'Write {key} = "…", one of {", ".join(_tags(structs))}'
    if section:
        return f"Write {key} = … below [{section}]"
    needed = [field.name for struct in tables.get(key, ()) for field in msgspec.structs.fields(struct) if field.required]
    return f"Write [{key}] with {' and '.join(needed)}" if needed else ""


def _of_value(value: str, section: str, key: str, tables: Mapping[str, tuple[Any, ...]]) -> str:
    structs = tables.get(section, ())
    allowed = _tags(structs) if key in _tag_field(structs) else _literals(structs, key)
    near = _near(value, allowed)
    meant = f"Did you mean {near!r}? " if near else ""
    return f"{meant}{section}.{key} is one of {', '.join(allowed)}" if allowed else ""


def _chosen(structs: Sequence[Any], written: Any) -> Sequence[Any]:
    """Of a section's structs the one that the file asks for; all where it says none."""
    for struct in structs:
        config = struct.__struct_config__
        if config.tag and isinstance(written, dict) and written.get(config.tag_field) == config.tag:
            return [struct]
    return structs


def _keys(structs: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(name for struct in structs for name in struct.__struct_fields__))


def _tag_field(structs: Sequence[Any]) -> list[str]:
    return [structs[0].__struct_config__.tag_field] if len(structs) > 1 else []


def _tags(structs: Sequence[Any]) -> list[str]:
    return [struct.__struct_config__.tag for struct in structs]


def _homes(tables: Mapping[str, tuple[Any, ...]]) -> Iterator[tuple[str, str]]:
    """Every key once with the sections, or kinds of a section, that have it, as a person would write them."""
    for section, structs in tables.items():
        field = _tag_field(structs)
        for key in _keys(structs):
            owners = [struct for struct in structs if key in struct.__struct_fields__]
            tags = " or ".join(f'"{tag}"' for tag in _tags(owners)) if field else ""
            yield key, f"[{section}] with {field[0]} = {tags}" if field else f"[{section}]"


def _literals(structs: Sequence[Any], key: str) -> list[str]:
    """The words that a key may have."""
    kinds = [field.type for struct in structs for field in msgspec.structs.fields(struct) if field.name == key]
    return [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]


def _near(word: str, known: Sequence[str]) -> str:
    return next(iter(difflib.get_close_matches(word[:_MAX_LENGTH], known, n=1)), "")


def _listed(section: str, keys: Sequence[str]) -> str:
    return f"The keys of [{section}] are {', '.join(keys)}" if keys else f"[{section}] has no further keys"
