"""The system's Chromium, driven through Playwright."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from tests.support.availability import require_linux, require_program
from tests.support.trust import trust_authority

# Chromium heeds the last --disable-features only, so ours, which comes last, repeats those of Playwright's that keep
# the browser off the network and off our plain HTTP addresses. The first one makes Chromium name 127.0.0.1 in its ICE
# candidates instead of a multicast DNS name.
_DISABLED_FEATURES = (
    "WebRtcHideLocalIpsWithMdns",
    "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "DestroyProfileOnBrowserClose",
)


def require_chromium() -> Path:
    """Return the path of Chromium, or end the test as unavailable."""
    require_linux("Chromium with a fake microphone")
    return require_program("chromium", "chromium-browser")


@asynccontextmanager
async def chromium(
    *,
    microphone: Path | None = None,
    grant_microphone: bool = True,
    autoplay: bool = True,
    arguments: Sequence[str] = (),
    authority: Path | None = None,
    namespace: str | None = None,
) -> AsyncIterator[Browser]:
    """Run a headless Chromium with an empty profile and WebRTC on loopback while the block runs.

    The microphone plays the WAV file over and over (beeps without one). `grant_microphone=False` asks the user, whom
    nobody plays, so that only `BrowserContext.grant_permissions` gives access. `autoplay=False` keeps the rule for
    users: no sound before a click; note that Playwright's `evaluate` counts as one.
    `authority` is a PEM file with a certificate authority that the browser trusts. It runs in the network `namespace`
    if one is named.
    """
    executable = require_chromium()
    switches = [
        "--allow-loopback-in-peer-connection",
        "--use-fake-device-for-media-stream",
        "--disable-gpu",
        "--disable-quic",
        f"--disable-features={','.join(_DISABLED_FEATURES)}",
        f"--autoplay-policy={'no-user-gesture-required' if autoplay else 'document-user-activation-required'}",
    ]
    if microphone is not None:
        switches.append(f"--use-file-for-fake-audio-capture={microphone}")
    if grant_microphone:
        switches.append("--use-fake-ui-for-media-stream")
    environment: dict[str, str | float | bool] = {**os.environ}
    async with AsyncExitStack() as stack:
        if authority is not None:
            home = stack.enter_context(tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True))
            trust_authority(Path(home, ".pki", "nssdb"), authority)
            environment["HOME"] = home
        if namespace is not None:
            home = stack.enter_context(tempfile.TemporaryDirectory(prefix="chromium-"))
            executable = _in_namespace(executable, namespace, Path(home))
        playwright = await stack.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(
            executable_path=executable, args=[*switches, *arguments], env=environment
        )
        try:
            yield browser
        finally:
            await browser.close()


def _in_namespace(executable: Path, namespace: str, directory: Path) -> Path:
    """A program in the directory that starts the other one there; Playwright takes nothing but a path."""
    starter = directory / "chromium"
    starter.write_text(f'#!/bin/sh\nexec ip netns exec {namespace} {executable} "$@"\n')
    starter.chmod(0o755)
    return starter
