"""`/metrics` over HTTP: it counts what happens, and who may read it."""

from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from edge_mcp.client.client import Client
from edge_mcp.client.websocket import WebSocketServer
from tests.processes import serving

TOKEN = "a-token-of-more-than-sixteen-letters"  # noqa: S105


async def fetched(url: str, token: str = "") -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_a_call_is_counted_and_reading_wakes_nothing() -> None:
    async with serving("--listen", "127.0.0.1:0") as served:
        url = served.url.replace("ws://", "http://").replace("/mcp", "/metrics")
        status, text = await fetched(url)
        assert status == 200
        assert "edge_mcp_model_memory_bytes{" not in text
        async with Client(await WebSocketServer.connect(served.url)) as client:
            await client.call_tool("detect_language", {"text": "Wo ist der Bahnhof?"})
        _, text = await fetched(url)
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        counted = {sample.name: sample.value for sample in samples if sample.labels.get("model") == "language-detector"}
        assert counted["nv_inference_request_success_total"] == counted["nv_inference_exec_count_total"] == 1
        assert counted["edge_mcp_model_memory_bytes"] > 0


async def test_a_token_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    async with serving("--listen", "127.0.0.1:0", "--token-file", str(tmp_path / "token")) as served:
        url = served.url.replace("ws://", "http://").replace("/mcp", "/metrics")
        assert (await fetched(url))[0] == 401
        assert (await fetched(url, TOKEN))[0] == 200
