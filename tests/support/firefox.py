"""The system's Firefox, driven through WebDriver BiDi."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import ViewportSize

from tests.support.availability import require_linux, require_program
from tests.support.bidi import BidiError, BidiSession, bidi_session
from tests.support.process import child_process
from tests.support.sound_server import sound_server
from tests.support.trust import trust_authority

_PREFERENCES: dict[str, bool | int | str] = {
    # WebRTC on loopback, with addresses instead of multicast DNS names.
    "media.peerconnection.ice.loopback": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    # 43 ms of samples at a time. With the default, about 10 ms, the microphone is choppy in its first seconds on a busy
    # machine: three programs beside it took every second of it down to a score of 0.5; with this none is below 0.9.
    "media.cubeb_latency_mtg_frames": 2048,
    # GMP plugins (OpenH264, Widevine) would be downloaded.
    "media.gmp-manager.updateEnabled": False,
    "media.gmp-manager.url": "data:text/plain,",
    # Nothing that talks to the network, or to the user, by itself.
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.aboutwelcome.enabled": False,
    "browser.newtabpage.enabled": False,
    "browser.region.network.url": "",
    "browser.safebrowsing.blockedURIs.enabled": False,
    "browser.safebrowsing.downloads.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.safebrowsing.update.enabled": False,
    "browser.search.update": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.startup.page": 0,
    "captivedetect.canonicalURL": "",
    "datareporting.healthreport.uploadEnabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.push.connection.enabled": False,
    "extensions.getAddons.cache.enabled": False,
    "extensions.systemAddon.update.enabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disablePrefetch": True,
    "network.prefetch-next": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "toolkit.telemetry.enabled": False,
    "toolkit.telemetry.server": "data:,",
    # Pages in the background are heard too.
    "media.block-autoplay-until-in-foreground": False,
    "dom.min_background_timeout_value": 4,
}

_MAKE_CLICKABLE = """
async ({selector, timeout_ms}) => {
    const begun = performance.now();
    for (;;) {
        const element = document.querySelector(selector);
        if (element && !element.disabled && element.getClientRects().length) {
            element.scrollIntoView({block: "center", behavior: "instant"});
            return;
        }
        if (performance.now() - begun > timeout_ms) throw new Error(`nothing to click at ${selector}`);
        await new Promise(resolve => setTimeout(resolve, 20));
    }
}
"""


class FirefoxPage:
    """One window. Its methods are those of a Playwright page, as far as the tests use them in both browsers."""

    def __init__(self, session: BidiSession, context: str) -> None:
        self._session = session
        self._context = context

    async def goto(self, url: str) -> None:
        """Open an address and wait until it is loaded."""
        await self._command("browsingContext.navigate", url=url, wait="complete")

    async def evaluate(self, expression: str, arg: Any = None, *, timeout_s: float = 60) -> Any:
        """Call the JavaScript function `expression` with `arg`, await it, return the result; both as JSON has them.

        BidiError with the exception's text if it throws.
        """
        answer = await self._command(
            "script.callFunction",
            functionDeclaration=f"async text => JSON.stringify(await ({expression})(JSON.parse(text)))",
            arguments=[{"type": "string", "value": json.dumps(arg)}],
            target={"context": self._context},
            awaitPromise=True,
            timeout_s=timeout_s,
        )
        if answer["type"] == "exception":
            raise BidiError(answer["exceptionDetails"]["text"])
        result = answer["result"]
        return json.loads(result["value"]) if result["type"] == "string" else None

    async def click(self, selector: str, *, timeout_s: float = 10) -> None:
        """Click the middle of an element with the mouse, once it can be clicked: a user's gesture to the page."""
        await self.evaluate(_MAKE_CLICKABLE, {"selector": selector, "timeout_ms": timeout_s * 1000})
        found = await self._command("browsingContext.locateNodes", locator={"type": "css", "value": selector})
        element = {"type": "element", "element": {"sharedId": found["nodes"][0]["sharedId"]}}
        move = {"type": "pointerMove", "x": 0, "y": 0, "origin": element}
        press, release = {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}
        mouse = {"type": "pointer", "id": "mouse", "actions": [move, press, release]}
        await self._command("input.performActions", actions=[mouse])

    async def press(self, *keys: str) -> None:
        """Press and release keys one after the other; special ones by their WebDriver code points."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        await self._command("input.performActions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    async def set_viewport_size(self, viewport_size: ViewportSize) -> None:
        """Set the size of the page, in CSS pixels."""
        await self._command("browsingContext.setViewport", viewport=viewport_size)

    async def screenshot(self, *, path: Path) -> None:
        """Write a PNG picture of what is visible."""
        answer = await self._command("browsingContext.captureScreenshot")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(answer["data"]))

    async def close(self) -> None:
        await self._command("browsingContext.close")

    def console(self) -> list[str]:
        """What the page has logged, exceptions included, as `level: text`."""
        entries = [event["params"] for event in self._session.events if event["method"] == "log.entryAdded"]
        own = [entry for entry in entries if entry["source"].get("context") == self._context]
        return [f"{entry['level']}: {entry['text']}" for entry in own]

    async def _command(self, method: str, *, timeout_s: float = 30, **params: Any) -> dict[str, Any]:
        if not method.startswith("script."):
            params["context"] = self._context
        return await self._session.command(method, timeout_s=timeout_s, **params)


class Firefox:
    """A running browser."""

    def __init__(self, session: BidiSession) -> None:
        self._session = session

    async def new_page(self) -> FirefoxPage:
        """Open a window of its own, which is never throttled as a tab in the background is."""
        answer = await self._session.command("browsingContext.create", type="window")
        return FirefoxPage(self._session, answer["context"])


def require_firefox() -> Path:
    """Return the path of Firefox, or end the test as unavailable."""
    require_linux("Firefox with a microphone that speaks")
    return require_program("firefox-esr", "firefox")


@asynccontextmanager
async def firefox(
    *,
    microphone: Path | None = None,
    grant_microphone: bool = True,
    autoplay: bool = True,
    preferences: Mapping[str, bool | int | str] | None = None,
    authority: Path | None = None,
) -> AsyncIterator[Firefox]:
    """Run a headless Firefox with a fresh profile and WebRTC on loopback while the block runs.

    The microphone plays the WAV file over and over, through a sound server of this browser's own; without a file there
    is no microphone at all. `grant_microphone=False` asks the user, whom nobody plays. `autoplay=False` keeps the rule
    for users: no sound before a click; a page that may use the microphone is free of it. `authority` is a PEM file with
    a certificate authority that the browser trusts.
    """
    executable = require_firefox()
    chosen = {
        "media.navigator.permission.disabled": grant_microphone,
        # A page without this permission tells only the address that leads to the internet, so not loopback.
        "permissions.default.microphone": 1 if grant_microphone else 0,
        "media.autoplay.default": 0 if autoplay else 1,
        "media.autoplay.blocking_policy": 0,
        **(preferences or {}),
    }
    async with AsyncExitStack() as stack:
        profile = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="firefox-", ignore_cleanup_errors=True)))
        lines = [
            f"user_pref({json.dumps(key)}, {json.dumps(value)});" for key, value in (_PREFERENCES | chosen).items()
        ]
        (profile / "user.js").write_text("\n".join(lines))
        if authority is not None:
            trust_authority(profile, authority)
        # A home of its own: as root, Firefox refuses a home that belongs to somebody else.
        environment = {**os.environ, "HOME": str(profile), "MOZ_HEADLESS": "1", "PULSE_SERVER": "none"}
        if microphone is not None:
            environment |= await stack.enter_async_context(sound_server(microphone))
        command: list[str | Path] = [
            executable,
            "--no-remote",
            "--profile",
            profile,
            "--remote-debugging-port",
            "0",
            "about:blank",
        ]
        process = await stack.enter_async_context(child_process(command, environment=environment))
        line = await process.wait_for_log("WebDriver BiDi listening on ", timeout_s=30)
        ws_url = line.split("listening on ")[1].strip()
        session = await stack.enter_async_context(bidi_session(ws_url, events=("log.entryAdded",)))
        yield Firefox(session)
