"""The description of the API, held to the server that runs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.support.server import running_server
from tests.support.talking import talking
from voice_streaming.web import openapi
from voice_streaming.web.recordings_api import RecordingsApi


def test_every_route_is_described() -> None:
    described = set(openapi.document()["paths"])
    routes = RecordingsApi(None, None, None, None).routes()  # type: ignore[arg-type]
    assert {route.path.replace(":[^./]+", "") for route in routes} | {"/api/rooms"} == described


def test_references_lead_somewhere() -> None:
    document = openapi.document()
    text = json.dumps(document)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])


@pytest.mark.slow
async def test_schemathesis_finds_no_answer_that_is_not_described(tmp_path: Path, payloads: list[bytes]) -> None:
    config = {"recording": {"mode": "manual", "open": True, "folder": str(tmp_path), "min_free_bytes": 0}}
    async with running_server(config) as server, talking(server.ws_url, "kitchen", payloads):
        async with (
            aiohttp.ClientSession() as http,
            http.post(server.url("/api/recordings"), json={"stream": "kitchen", "seconds": 1}) as answer,
        ):
            assert answer.status == 201
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", server.url("/api/openapi.json")),
            *("--max-examples", "10", "--seed", "1", "--generation-deterministic", "--no-color"),
            *("--exclude-checks", "positive_data_acceptance,unsupported_method", "--workers", "1"),
        ]
        # It runs nothing of ours: to measure what of ours it covers would make it three times as slow.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        run = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
