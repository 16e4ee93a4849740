"""Semantic versions (semver.org, 2.0.0): what is one, and which of two is the higher."""

import re

MAX_LENGTH = 64
_NUMBER = r"0|[1-9]\d*"
_PART = rf"(?:{_NUMBER}|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_VERSION = re.compile(
    rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:-({_PART}(?:\.{_PART})*))?(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)

Precedence = tuple[tuple[int, int, int], bool, tuple[tuple[bool, int, str], ...]]


def is_version(text: str) -> bool:
    """Whether `text` is a semantic version, and no longer than `MAX_LENGTH`."""
    return len(text) <= MAX_LENGTH and _VERSION.fullmatch(text) is not None


def precedence(text: str) -> Precedence:
    """What compares as the versions do; build metadata does not count. What is no version is below all that are."""
    match = _VERSION.fullmatch(text)
    if match is None or len(text) > MAX_LENGTH:
        return (-1, -1, -1), False, ()
    major, minor, patch, before = match.groups()
    # A number is below a word; a list is below a longer one that begins with it, as tuples are.
    parts = tuple((not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in (before or "").split(".") if part)
    return (int(major), int(minor), int(patch)), before is None, parts
