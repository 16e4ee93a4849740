"""`edge-mcp pair` and `edge-mcp token --list` as a person uses them, with a device that is a process of its own."""

import asyncio
import os
import sys
from pathlib import Path

import msgspec
import pytest
from aiohttp import ClientSession

from edge_mcp.client.known import Known
from tests.processes import serving

TOKEN = "a-token-of-the-device-itself"  # noqa: S105 - of this test


async def edge(data: Path, *words: str, typed: str = "", code: str = "") -> tuple[int, str, str]:
    """`edge-mcp WORDS` with its data in `data`: status, output, what it said."""
    program = ["-c", code] if code else ["-m", "edge_mcp"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *program,
        *words,
        env={**os.environ, "XDG_DATA_HOME": str(data)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await process.communicate(typed.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), said.decode()


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
async def test_a_person_pairs_and_withdraws(tmp_path: Path, tls: bool) -> None:
    device, laptop = tmp_path / "device", tmp_path / "laptop"
    flags = ["--listen", "127.0.0.1:0", *(["--tls"] if tls else [])]
    async with serving(*flags, XDG_DATA_HOME=str(device), EDGE_MCP_TOKEN=TOKEN) as served:
        url = served.url.replace("https://", "wss://")
        maps = Path(f"/proc/{served.process.pid}/maps")
        assert "cryptography" not in maps.read_text(), "a server carries it only once somebody pairs"
        status, digits, _ = await edge(device, "pair")
        assert status == 0
        status, out, said = await edge(laptop, "pair", url, typed=digits)
        assert (status, out.startswith("paired with ")) == (0, True), said
        known, by_address = msgspec.json.decode((laptop / "edge-mcp/devices.json").read_bytes(), type=list[Known])
        assert bool(known.fingerprint) == tls
        assert (by_address.id, by_address.token, by_address.fingerprint) == ("", known.token, known.fingerprint)
        status, out, said = await edge(laptop, "call", "detect_language", "text=Wo ist der Bahnhof?", "--url", url, "--json")
        assert (status, '"de"' in out) == (0, True), said
        assert (await edge(tmp_path / "stranger", "call", "detect_language", "text=Hallo", "--url", url))[0] == 1

        async def let_in() -> int:
            address, fields = url.replace("ws", "http", 1), {"Authorization": f"Bearer {known.token}"}
            async with ClientSession() as session, session.put(address, headers=fields, ssl=False) as response:
                return response.status

        assert await let_in() == 405, "it is let in; there is no PUT"
        _, listed, _ = await edge(device, "token", "--list")
        name = listed.split()[0]
        assert (await edge(device, "token", "--revoke", "nobody"))[0] == 1
        assert (await edge(device, "token", "--revoke", name))[:2] == (0, "")
        assert await let_in() == 401


async def test_what_is_typed_wrong_is_said(tmp_path: Path) -> None:
    flags = ["--listen", "127.0.0.1:0"]
    async with serving(*flags, XDG_DATA_HOME=str(tmp_path / "device"), EDGE_MCP_TOKEN=TOKEN) as served:
        status, _, said = await edge(tmp_path, "pair", served.url)
        assert (status, "pairing is not open here. Run on the device: edge-mcp pair" in said) == (1, True)
        await edge(tmp_path / "device", "pair")
        for typed in ("12345\n", "abcdef\n", ""):
            status, _, said = await edge(tmp_path, "pair", served.url, typed=typed)
            assert (status, "digits" in said.splitlines()[-1]) == (1, True)


async def test_without_the_extra_it_says_how_to_get_it(tmp_path: Path) -> None:
    code = "import sys; sys.modules['spake2'] = None; from edge_mcp.cli.main import main; main()"
    status, _, said = await edge(tmp_path, "pair", code=code)
    assert status == 1
    assert said == "edge-mcp: pairing needs the package spake2. pip install 'edge-mcp[pair]'\n"
