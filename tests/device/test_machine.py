"""The machine that the other tests here boot."""

from pathlib import Path

from tests.device.machine import booted


def test_a_machine_boots_runs_and_is_switched_off(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "note").write_text("here")
    with booted(tmp_path / "disk", {"/root/note": tmp_path / "note"}) as machine:
        assert machine.run("ps", "-p", "1", "-o", "comm=").stdout == "systemd\n"
        assert machine.run("cat", "/root/note").stdout == "here"
        assert machine.run("systemctl", "--failed", "--quiet").stdout == ""
        machine.until("dbus.service", ActiveState="active")
        machine.path("/root/more").write_text("x")
    assert (tmp_path / "disk/upper/root/more").read_text() == "x"
