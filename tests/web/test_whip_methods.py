"""What WHIP and WHEP answer to OPTIONS, GET and HEAD."""

from __future__ import annotations

import pytest

from tests.support.server import running_server
from tests.support.stage import Client
from tests.support.whip_client import whip_client
from tests.support.whip_peers import publishing


async def test_options_say_what_may_be_sent_and_need_no_token() -> None:
    origin = "https://page.example"
    settings = {
        "access": {"tokens": [{"token": "a-token-of-somebody", "scopes": ["admin"]}], "allowed_origins": [origin]}
    }
    async with running_server(settings) as server, whip_client(server.url("/")) as web:
        for path in ("/whip/kitchen", "/whep/kitchen", "/whip/sessions/any", "/whep/sessions/any"):
            answer = await web.ask("OPTIONS", path, headers={"Origin": origin})
            assert answer.status == 200
            assert answer.headers["Access-Control-Allow-Origin"] == origin
            assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
            assert "If-Match" in answer.headers["Access-Control-Allow-Headers"]
            assert "Location" in answer.headers["Access-Control-Expose-Headers"]
            foreign = await web.ask("OPTIONS", path, headers={"Origin": "https://other.example"})
            assert "Access-Control-Allow-Origin" not in foreign.headers
        assert (await web.ask("OPTIONS", "/whip/kitchen")).headers["Accept-Post"] == "application/sdp"
        for path in ("/whip/kitchen", "/whip/sessions/any"):
            refused = await web.ask("PUT", path)
            assert refused.status == 405
            assert {"DELETE", "POST"} & set(refused.headers["Allow"].split(","))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_get_and_head_have_no_content_and_tell_an_endpoint(method: str) -> None:
    """RFC 9725 section 4.1, draft-ietf-wish-whep "HTTP Usage" and "WHEP Endpoint URL Discoverability"."""
    origin = "https://page.example"
    settings = {
        "access": {"tokens": [{"token": "a-token-of-somebody", "scopes": ["send"]}], "allowed_origins": [origin]}
    }
    async with (
        running_server(settings) as server,
        whip_client(server.url("/")) as web,
        publishing(web, "/whip/kitchen?token=a-token-of-somebody") as (_, created),
    ):
        # Without a token, and whether the stream is live or not: it tells nothing of streams.
        for path in ("/whip/kitchen", "/whep/kitchen", "/whep/nowhere", "/whep/latest"):
            endpoint = await web.ask(method, path, headers={"Origin": origin})
            assert (endpoint.status, endpoint.text) == (200, "")
            assert endpoint.headers["Content-Type"] == "application/sdp"
            assert endpoint.headers["Access-Control-Allow-Origin"] == origin
        session = await web.ask(method, created.location)
        assert (session.status, session.text) == (204, "")
        assert (await web.ask(method, "/whip/sessions/any")).status == 404
        assert (await web.ask("DELETE", created.location)).status == 200
        assert (await web.ask(method, created.location)).status == 404


async def test_ice_servers_are_linked() -> None:
    """In answers to OPTIONS too, where a client asks by it, but not in those to preflights (RFC 9725 section 4.6)."""
    settings = {"webrtc": {"ice_servers": [{"urls": "stun:127.0.0.1:9"}, {"urls": "stun:127.0.0.1:10"}]}}
    links = ['<stun:127.0.0.1:9>; rel="ice-server"', '<stun:127.0.0.1:10>; rel="ice-server"']
    preflight = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    async with running_server(settings) as server, whip_client(server.url("/")) as web:
        answer = await web.post("/whip/kitchen", await Client().offer())
        assert answer.status == 201, answer.text
        assert answer.headers.getall("Link") == links
        assert (await web.ask("OPTIONS", "/whep/kitchen")).headers.getall("Link") == links
        assert "Link" not in (await web.ask("OPTIONS", "/whep/kitchen", headers=preflight)).headers
