"""What is said at the end is of use, and holds no secret."""

import sys

import pytest

from tests.processes import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

from card import words
from card.settings import Wishes

KEY, TOKEN = "ssh-ed25519 AAAA me@home", "0123456789abcdef"


def test_who_cannot_use_it_is_told() -> None:
    assert "nobody can use it yet" in words.steps(Wishes(), imager=False)[-1]
    for wishes, imager in ((Wishes(ssh_key=KEY), False), (Wishes(token=TOKEN), False), (Wishes(), True), (None, False)):
        assert "nobody" not in "".join(words.steps(wishes, imager))


def test_who_logs_in_is_said() -> None:
    assert "ssh frida@ADDRESS" in "".join(words.steps(Wishes(user="frida", ssh_key=KEY), imager=False))
    assert "ssh USER@ADDRESS" in "".join(words.steps(Wishes(), imager=True))


def test_without_a_program_for_it_there_is_no_code() -> None:
    assert words.code("https://hall.local:8765/mcp") == ""  # nor where nobody sees it


def test_the_token_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    words.end(Wishes(name="hall", token=TOKEN), "first of all this")
    said = capsys.readouterr().out
    assert said.startswith("1. first of all this\n2. ")
    assert "claude mcp add --transport http edge https://hall.local:8765/mcp" in said and '"mcpServers"' in said
    assert words.KEPT in said and TOKEN not in said
