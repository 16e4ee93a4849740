"""Calls over several real devices."""

from pathlib import Path

import pytest

from edge_mcp.gateway.routing import Router
from tests.gateway.devices import Host, given, replicas, said, upstreams


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_a_call_is_answered_by_one_of_the_devices(tmp_path: Path, encoding: str) -> None:
    async with replicas(tmp_path, "a", "b") as devices, upstreams(*devices) as ups:
        arguments = given(encoding, n=7)
        result = await Router().call(ups, "work", arguments, Host().context(), repeatable=True)
        assert said(result, arguments)["n"] == 7
        assert said(result, arguments)["by"] in "ab"
