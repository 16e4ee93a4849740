"""The command line as a whole: help, wrong usage, and how every command fails."""

import json
import os
import subprocess
import sys

import pytest

import edge_mcp
from edge_mcp.cli import models
from edge_mcp.cli.main import COMMANDS, main
from edge_mcp.errors import EdgeError
from tests.cli.command import ROOT
from tests.cli.command import edge_mcp as run


def status(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_without_a_command_help_is_shown_and_the_status_is_that_of_wrong_usage() -> None:
    ran = run()
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("usage: edge-mcp COMMAND")


def test_help_names_every_command_and_gives_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("--help") == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert "example:" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_gives_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(command, "--help") == 0
    assert f"example:\n  edge-mcp {command} " in capsys.readouterr().out


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("--version") == 0
    assert capsys.readouterr().out == f"edge-mcp {edge_mcp.__version__}\n"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["frobnicate"], "there is no command 'frobnicate'. See edge-mcp --help"),
        (["call"], "the following arguments are required: TOOL. See edge-mcp call --help"),
        (["call", "t", "oops"], "argument key=value: 'oops' is neither key=value nor key=@FILE. See edge-mcp call --help"),
        (["call", "t", "--bogus"], "unrecognized arguments: --bogus. See edge-mcp call --help"),
        (
            ["call", "t", "--timeout", "soon"],
            "argument --timeout: 'soon' is no number of seconds above 0, such as 2.5. See edge-mcp call --help",
        ),
        *(
            (
                ["call", "t", f"--timeout={time}"],
                f"argument --timeout: '{time}' is no number of seconds above 0, such as 2.5. See edge-mcp call --help",
            )
            for time in ("-1", "0", "nan", "inf")
        ),
        (["serve", "--lanes", "x"], "argument --lanes: invalid int value: 'x'. See edge-mcp serve --help"),
        (["models", "show"], "the following arguments are required: NAME. See edge-mcp models show --help"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(words: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(*words) == 2
    assert capsys.readouterr().err == f"edge-mcp: {error}\n"


def fail(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(options: object) -> int:
        raise error

    monkeypatch.setattr(models, "run", run)


def test_a_bug_is_one_line_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fail(ZeroDivisionError("oh\nno"), monkeypatch)
    assert status("models") == 1
    expected = "edge-mcp: internal error: ZeroDivisionError: oh no. Run it again with --debug to see where\n"
    assert capsys.readouterr().err == expected


def test_debug_adds_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fail(ZeroDivisionError("oh no"), monkeypatch)
    assert status("models", "--debug") == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "edge-mcp: internal error: ZeroDivisionError: oh no"


def test_an_interrupt_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fail(KeyboardInterrupt(), monkeypatch)
    assert status("models") == 130
    assert capsys.readouterr().err == ""


def closed(which: str, *words: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """A run whose shell redirected something."""
    script = f'exec "$0" -m edge_mcp "$@" {which}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = ["sh", "-c", script, sys.executable, *words]
    ran = subprocess.run(command, input=stdin, capture_output=True, cwd=ROOT, env=environment, timeout=60)
    return ran.returncode, ran.stdout.decode(), ran.stderr.decode()


PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n'


def test_without_standard_error_the_protocol_is_all_there_is_on_standard_output() -> None:
    status, out, err = closed("2>&-", "serve", "--stdio", stdin=PING)
    assert (status, [json.loads(line) for line in out.splitlines()], err) == (
        0,
        [{"jsonrpc": "2.0", "id": 1, "result": {}}],
        "",
    )


@pytest.mark.parametrize("which", ["2>&-", "0<&- 2>&-"])
def test_without_standard_error_a_call_is_answered(which: str) -> None:
    status, out, err = closed(which, "call", "detect_language", "text=guten Tag", "--json")
    assert (status, json.loads(out)["label"], err) == (0, "de", "")
    assert closed(which, "call", "nothing") == (1, "", "")


def test_without_standard_output_a_call_goes_well() -> None:
    assert closed(">&-", "call", "detect_language", "text=guten Tag", "--json") == (0, "", "")


def test_a_server_lives_on_without_anybody_to_greet() -> None:
    status, out, _ = closed("2>/dev/full", "serve", "--stdio", stdin=PING)
    assert (status, out.count("\n")) == (0, 1)


@pytest.mark.parametrize("words", [["--help"], ["models"], ["models", "--json"]])
def test_a_disk_that_is_full_is_one_line(words: list[str]) -> None:
    error = "edge-mcp: the output cannot be written: No space left on device\n"
    assert closed(">/dev/full", *words) == (1, "", error)


def test_an_error_cannot_command_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fail(EdgeError("red \x1b[31m alert"), monkeypatch)
    assert status("models") == 1
    assert capsys.readouterr().err == "edge-mcp: red \N{REPLACEMENT CHARACTER}[31m alert\n"
