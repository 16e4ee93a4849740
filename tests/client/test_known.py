"""What this machine remembers of devices: whole, private, shared by processes, and taken over from the file of before."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_mcp.client import known as room
from edge_mcp.client.known import Known, KnownDevices
from edge_mcp.errors import ConfigError

DIGITS = "4b8fa3845d4b42b32fb64b7b9364fdfc9425efbc96d051e21449688928d3594a"
KITCHEN = Known("3f2a" * 4, "kitchen-3f2a", DIGITS, "t" * 32)
HALL = Known("77aa" * 4, "hall-77aa")


def test_devices_are_kept_by_id_and_found_by_name(tmp_path: Path) -> None:
    devices = KnownDevices(tmp_path / "new" / "devices.json")
    assert devices.all() == []
    devices.remember(KITCHEN)
    devices.remember(HALL)
    twin = Known("9999" * 4, "kitchen-3f2a")
    devices.remember(twin)
    again = KnownDevices(devices.file)
    assert again.get(KITCHEN.id) == KITCHEN
    assert again.named("kitchen-3f2a") == [KITCHEN, twin]
    assert again.named(HALL.id) == [HALL]
    assert again.get("") is None
    assert devices.file.stat().st_mode & 0o777 == 0o600
    assert devices.file.parent.stat().st_mode & 0o777 == 0o700
    assert devices.forget(twin.id)
    assert not devices.forget(twin.id)
    assert again.named("kitchen-3f2a") == [KITCHEN]
    assert [path.name for path in devices.file.parent.iterdir()] == ["devices.json"]


def test_lines_of_before_are_taken_over_at_the_first_change(tmp_path: Path) -> None:
    (tmp_path / "known-devices").write_text(f"pi.local:8765 sha256:{DIGITS}\n[fe80::1%eth0]:1 sha256:{DIGITS}\n")
    devices = KnownDevices(tmp_path / "devices.json")
    old = Known("", "pi.local:8765", DIGITS, url="wss://pi.local:8765")
    assert devices.get("wss://pi.local:8765") == old
    assert devices.get("wss://[fe80::1%eth0]:1") is not None
    devices.remember(KITCHEN)
    (tmp_path / "known-devices").unlink()
    assert devices.get(old.key) == old


def test_a_line_of_before_that_is_damaged_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "known-devices").write_text("127.0.0.1:1 sha256:torn\n")
    with pytest.raises(ConfigError, match=r"has no fingerprint for 127\.0\.0\.1:1\. Delete that line"):
        KnownDevices(tmp_path / "devices.json").all()


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"id": 1, "name": "x"}]', "[" * 100_000])
def test_a_damaged_file_is_an_error_and_stays_as_it_is(tmp_path: Path, content: str) -> None:
    file = tmp_path / "devices.json"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="is damaged: "):
        KnownDevices(file).remember(KITCHEN)
    assert file.read_text() == content


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    devices = KnownDevices(tmp_path / "devices.json")
    devices.remember(KITCHEN)
    devices.file.chmod(0o644)
    with pytest.raises(ConfigError, match=r"others may read .* chmod 600"):
        devices.all()


def test_there_is_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_KNOWN", 2)
    devices = KnownDevices(tmp_path / "devices.json")
    devices.remember(KITCHEN)
    devices.remember(HALL)
    with pytest.raises(ConfigError, match="has 2 devices already"):
        devices.remember(Known("1" * 16, "one-1111"))
    devices.remember(HALL)
    assert devices.all() == [KITCHEN, HALL]


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "devices.json"
    code = (
        "import sys; from pathlib import Path; from edge_mcp.client.known import *\n"
        "for n in range(20): KnownDevices(Path(sys.argv[1])).remember(Known(f'{sys.argv[2]}{n:015x}', 'x'))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(file), digit]) for digit in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(json.loads(file.read_text())) == 60


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(st.binary(max_size=300))
def test_whatever_is_in_the_files_is_devices_or_an_error(tmp_path: Path, content: bytes) -> None:
    for name in ("devices.json", "known-devices"):
        file = tmp_path / name
        file.write_bytes(content)
        file.chmod(0o600)
        try:
            assert isinstance(KnownDevices(tmp_path / "devices.json").all(), list)
        except ConfigError as error:
            assert "\n" not in error.message
        file.unlink()
