"""Real reverse proxies in front of the daemon."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.availability import require_program
from tests.support.ports import free_port
from tests.support.process import ChildProcess, child_process

PREFIX = "/voice"
"""Where `prefixed` configurations have the pages."""

NGINX_CASE = (Path(__file__).parents[1] / "cases" / "nginx.conf").read_text()
NGINX_HEADERS = """
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Host $http_host;
"""
"""The two lines of docs/proxies.md; a third below a path."""

_HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 1m
    timeout server 1m
    timeout tunnel 1h

frontend voice
    bind 127.0.0.1:{port}
    option forwardfor
    http-request set-header X-Forwarded-Host %[req.hdr(Host)]
    http-request set-header X-Forwarded-Prefix {prefix} if {{ path_beg {prefix}/ }}
    http-request replace-path {prefix}/(.*) /\\1
    default_backend relay

backend relay
    server relay 127.0.0.1:{upstream}
"""


def nginx_with_headers(*, prefix: str = "") -> str:
    """nginx's usual block with the lines that docs/proxies.md adds, for the whole server or below a prefix."""
    text = NGINX_CASE.replace("proxy_http_version 1.1;", f"proxy_http_version 1.1;{NGINX_HEADERS}")
    if prefix:
        forwarded = f"proxy_set_header X-Forwarded-Prefix {prefix};"
        text = text.replace("location / {", f"location {prefix}/ {{ {forwarded}").replace(":8080;", ":8080/;")
    return text


@asynccontextmanager
async def nginx(upstream: int, configuration: str = NGINX_CASE) -> AsyncIterator[int]:
    """nginx with this configuration, but on a free port and in front of `upstream`; yields the port."""
    program, port = require_program("nginx", "/usr/sbin/nginx"), free_port()
    with tempfile.TemporaryDirectory(prefix="nginx-") as folder:
        path = _write_nginx_configuration(Path(folder), configuration, port, upstream)
        directives = f"daemon off; error_log stderr; pid {folder}/nginx.pid;"
        command: list[str | Path] = [program, "-p", folder, "-e", "stderr", "-c", path, "-g", directives]
        async with child_process(command) as process:
            await until_it_listens(process, port)
            yield port


def nginx_folders(folder: Path) -> str:
    """Directives with which nginx keeps what it keeps there: else a user who is not root could not start it."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "\n    ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)


def _write_nginx_configuration(folder: Path, configuration: str, port: int, upstream: int) -> Path:
    text = configuration.replace("127.0.0.1:18800", f"127.0.0.1:{port}").replace(":8080", f":{upstream}")
    text = text.replace("http {", "http {\n    access_log off;\n    " + nginx_folders(folder))
    path = folder / "nginx.conf"
    path.write_text(text)
    folder.chmod(0o755)  # Its workers are another user's.
    return path


@asynccontextmanager
async def haproxy(upstream: int) -> AsyncIterator[int]:
    """HAProxy as docs/proxies.md has it, with and without PREFIX; yields its port."""
    program, port = require_program("haproxy", "/usr/sbin/haproxy"), free_port()
    with tempfile.TemporaryDirectory(prefix="haproxy-") as folder:
        path = Path(folder) / "haproxy.cfg"
        path.write_text(_HAPROXY.format(port=port, upstream=upstream, prefix=PREFIX))
        async with child_process([program, "-db", "-f", path]) as process:
            await until_it_listens(process, port)
            yield port


async def until_it_listens(process: ChildProcess, port: int) -> None:
    """On 127.0.0.1; AssertionError if the program ends before, TimeoutError if it takes too long."""
    async with asyncio.timeout(15):
        while True:
            assert process.exit_code is None, process.log_text()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return
