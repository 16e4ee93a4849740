"""Who gets in, and what everybody may see: over HTTP and WebSockets alike."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

import edge_mcp
from edge_mcp.transports.access import Access, token_hash
from edge_mcp.transports.card import Card
from edge_mcp.transports.http import Limits, Options
from tests.transports.wire import BOTH, initialize, listening

TOKEN = "a-token-of-more-than-sixteen-letters"  # noqa: S105
SECURED = Options(token_hash=token_hash(TOKEN), card=Card("io.example/device", "Device", "d" * 200), old_sse=True)
GOOD = {"Authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN.upper()}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer \N{LATIN SMALL LETTER E WITH ACUTE}"},
        {"X-Authorization": f"Bearer {TOKEN}"},
    ],
)
async def test_without_the_token_nothing_else_is_looked_at(headers: dict[str, str]) -> None:
    async with listening(SECURED) as site:
        for method, path in [("POST", "/mcp"), ("GET", "/mcp"), ("DELETE", "/mcp"), ("OPTIONS", "/mcp"), ("GET", "/sse")]:
            async with site.http.request(method, site.at(path), data=b"{", headers=headers) as response:
                assert response.status == 401
                assert response.headers["WWW-Authenticate"] == "Bearer"
                assert TOKEN not in await response.text()
        with pytest.raises(InvalidStatus) as refused:
            await connect(site.url.replace("http", "ws", 1), additional_headers=headers)
        assert refused.value.response.status_code == 401
        assert not site.server._live


async def test_the_token_is_good_for_everything() -> None:
    async with listening(SECURED) as site:
        assert (await site.modern("tools/list", headers=GOOD)).status == 200
        assert (await site.modern("tools/list", headers={"Authorization": f"bearer  {TOKEN} "})).status == 200
        await site.initialize(headers=GOOD)
        async with connect(site.url.replace("http", "ws", 1), additional_headers=GOOD) as socket:
            await socket.ping()
        principals = {conversation.connection.peer.principal for conversation in site.server._live}
        assert principals == {"token-" + token_hash(TOKEN).hex()[:12]}


async def test_a_token_that_comes_twice_is_none() -> None:
    async with listening(SECURED) as site:
        fields = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\nAuthorization: Bearer x\r\nConnection: close"
        assert b" 401 " in await site.raw(f"GET /mcp HTTP/1.1\r\n{fields}\r\n\r\n".encode())


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/register",
        "/",
        "/mcp/",
        "/mcp/x",
    ],
)
async def test_there_is_nothing_elsewhere(path: str) -> None:
    async with listening(SECURED) as site, site.http.get(site.at(path), headers={"Accept": "text/html"}) as response:
        assert (response.status, response.content_type) == (404, "text/plain")


async def test_health_needs_no_token_and_wakes_nothing() -> None:
    async with listening(SECURED) as site:
        async with site.http.get(site.at("/health"), headers={"Host": "probe.example.com"}) as response:
            assert response.status == 200
            assert await response.json() == {"live": True, "ready": True, "version": edge_mcp.__version__}
        async with site.http.post(site.at("/health")) as response:
            assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
        assert not site.server._live
    async with listening(Options(is_ready=lambda: False)) as site, site.http.get(site.at("/health")) as response:
        assert (await response.json())["ready"] is False


async def test_the_card_says_where_the_server_is() -> None:
    async with listening(SECURED) as site:
        async with site.http.get(site.url + "/server-card", headers={"Origin": "https://elsewhere.example"}) as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "application/mcp-server-card+json"
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert response.headers["Cache-Control"] == "public, max-age=3600"
            tag = response.headers["ETag"]
            card = await response.json(content_type=None)
        assert card["name"] == "io.example/device"
        assert len(card["description"]) == 100
        assert [(remote["type"], remote["url"]) for remote in card["remotes"]] == [("streamable-http", site.url)]
        for known, status in ((tag, 304), (f'"x", W/{tag}', 304), ('"x"', 200)):
            async with site.http.get(site.url + "/server-card", headers={"If-None-Match": known}) as response:
                assert (response.status, response.headers["ETag"]) == (status, tag)
        async with site.http.get(site.url + "/server-card", headers={"Host": "evil.example.com"}) as response:
            assert response.status == 421
        async with site.http.post(site.url + "/server-card") as response:
            assert response.status == 405


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:1234", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("192.168.1.7:8765", 200),
        ("pi.lan", 200),
        ("pi.lan.:80", 200),
        ("evil.example.com", 421),
        ("localhost.evil.example.com", 421),
        ("user@localhost", 421),
        ("localhost/x", 421),
        ("[::1", 421),
        ("", 421),
        ("::::", 421),
    ],
)
async def test_names_of_this_machine(host: str, status: int) -> None:
    async with listening(Options(hosts=("Pi.lan",))) as site:
        assert (await site.modern("tools/list", headers={"Host": host})).status == status


async def test_a_request_without_or_with_two_hosts_is_refused() -> None:
    async with listening() as site:
        for hosts in ("", "Host: localhost\r\nHost: evil.example.com\r\n"):
            said = await site.raw(f"GET /mcp HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n".encode())
            assert said.split()[1] in (b"400", b"421")


async def test_too_many_requests_are_told_when_to_come_again() -> None:
    async with listening(Options(limits=Limits(requests_per_s=2))) as site:
        answers = [await site.modern("tools/list") for _ in range(40)]
        assert answers[0].status == 200
        refused = [answer for answer in answers if answer.status != 200]
        assert {(answer.status, answer.headers["Retry-After"]) for answer in refused} == {(429, "1")}


async def test_too_many_messages_end_a_websocket() -> None:
    limited = Options(limits=Limits(requests_per_s=2))
    async with listening(limited) as site, connect(site.url.replace("http", "ws", 1)) as socket:
        with pytest.raises(ConnectionClosed):
            for _ in range(40):
                await socket.send('{"jsonrpc":"2.0","id":1,"method":"ping"}')
                await asyncio.wait_for(socket.recv(), 30)
        assert socket.close_code == 1013
        assert "too many" in (socket.close_reason or "")


async def test_too_many_connections_are_turned_away_and_nothing_is_kept_of_them() -> None:
    async with listening(Options(limits=Limits(connections=3, connections_per_peer=2))) as site:
        held = [await asyncio.open_connection(*site.address) for _ in range(2)]
        assert b" 429 " in await site.raw(b"")
        for _, writer in held:
            writer.close()
        async with asyncio.timeout(30):
            while (await site.raw(b"GET /health HTTP/1.0\r\n\r\n")).split()[1] != b"200":
                pass


async def test_sessions_are_kept_apart_by_token_holder() -> None:
    async with listening(SECURED) as site:
        session = await site.initialize(headers=GOOD)
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        assert (await site.post(body, {"Mcp-Session-Id": session.headers["Mcp-Session-Id"]})).status == 401
        assert (await site.post(body, session.headers)).status == 200
        assert (await site.post(initialize(), BOTH)).status == 401


@given(
    st.lists(st.tuples(st.sampled_from(["Host", "Origin", "Authorization"]), st.text() | st.sampled_from(["[", "//", "a@b"])))
)
def test_no_header_field_raises(fields: list[tuple[str, str]]) -> None:
    access = Access("127.0.0.1", (), token_hash(TOKEN))
    multi = CIMultiDict(fields)
    assert access.principal(multi) is None
    refusal = access.check_site(multi)
    assert refusal is None or refusal.status in (403, 421)
