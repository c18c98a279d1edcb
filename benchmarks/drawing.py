"""What a live page costs the browser: its main thread, and what meters and spectrum add to all of Chromium's processes.

    python benchmarks/drawing.py [--seconds 20] [--rounds 3] [--json]

Each page is measured by turns as it is and with its meters left undrawn, in a Chromium of its own on 127.0.0.1, which
draws in software. Shares are of one core; the demo's voice is the microphone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from machine import describe
from playwright.async_api import Browser, CDPSession, Page, Route

from tests.support.audio import decode_audio, write_wav
from tests.support.chromium import chromium
from tests.support.server import REPOSITORY, RunningServer, running_server

GOAL = 0.03
"""Of one core, for drawing."""
SETTLE_S = 5
"""Until a page that has gone live does nothing but go on."""
PAGES = {
    "sender": ("/sender", "#talk", ".round[data-state=live]"),
    "receiver": ("/receiver", "#listen", ".round[data-state=playing]"),
    "overview": ("/", "button.listen", ".said:not(:empty)"),
}
"""By name: the address, the button that begins, and what is there when it has begun."""


@dataclass(frozen=True)
class Cost:
    """Shares of one core."""

    main_thread: float
    """Of the page's main thread, all that it does."""
    script: float
    style_and_layout: float
    browser: float
    """Of all processes of Chromium: drawing, but sound and network, too."""


async def _leave_undrawn(route: Route) -> None:
    """The module that draws, without the drawing."""
    response = await route.fetch()
    body = await response.text()
    for name in ("showLevel", "showSpectrum"):
        body = body.replace(f"export function {name}(", f"export function {name}() {{}}\nfunction {name}Drawn(")
    await route.fulfill(response=response, body=body)


@asynccontextmanager
async def _live_page(browser: Browser, server: RunningServer, name: str, *, drawn: bool) -> AsyncIterator[Page]:
    path, button, begun = PAGES[name]
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        if not drawn:
            await context.route("**/static/meter.js", _leave_undrawn)
            await context.add_init_script("window.requestAnimationFrame = () => 0")
        page = await context.new_page()
        await page.goto(server.url(path))
        await page.locator(button).first.focus()
        await page.keyboard.press("Enter")
        await page.locator(begun).first.wait_for()
        await asyncio.sleep(SETTLE_S)
        yield page
    finally:
        await context.close()


async def _spent_s(page_session: CDPSession, browser_session: CDPSession) -> dict[str, float]:
    """CPU time so far, in seconds."""
    metrics = (await page_session.send("Performance.getMetrics"))["metrics"]
    spent = {metric["name"]: float(metric["value"]) for metric in metrics}
    processes = (await browser_session.send("SystemInfo.getProcessInfo"))["processInfo"]
    return {**spent, "browser": sum(process["cpuTime"] for process in processes)}


async def measure(browser: Browser, server: RunningServer, name: str, seconds: float, *, drawn: bool) -> Cost:
    async with _live_page(browser, server, name, drawn=drawn) as page:
        page_session = await page.context.new_cdp_session(page)
        browser_session = await browser.new_browser_cdp_session()
        await page_session.send("Performance.enable", {"timeDomain": "threadTicks"})
        before = await _spent_s(page_session, browser_session)
        await asyncio.sleep(seconds)
        after = await _spent_s(page_session, browser_session)
    share = {key: (after[key] - before[key]) / seconds for key in after}
    return Cost(
        share["TaskDuration"],
        share["ScriptDuration"],
        share["RecalcStyleDuration"] + share["LayoutDuration"],
        share["browser"],
    )


def median(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(values) for values in zip(*(asdict(cost).values() for cost in costs), strict=True)))


async def measure_all(seconds: float, rounds: int) -> dict[str, dict[str, Cost]]:
    """By page, as it is (`drawn`) and without meters (`undrawn`)."""
    with tempfile.TemporaryDirectory() as directory:
        microphone = Path(directory) / "voice.wav"
        write_wav(microphone, decode_audio(REPOSITORY / "voice_streaming" / "streams" / "demo.ogg"))
        found: dict[str, dict[str, list[Cost]]] = {name: {"drawn": [], "undrawn": []} for name in PAGES}
        async with running_server(arguments=["--demo"]) as server, chromium(microphone=microphone) as browser:
            for number in range(rounds):
                for name, variants in found.items():
                    for variant, costs in variants.items():
                        cost = await measure(browser, server, name, seconds, drawn=variant == "drawn")
                        print(f"round {number + 1}: {name}, {variant}: {cost}", file=sys.stderr)
                        costs.append(cost)
    return {name: {key: median(costs) for key, costs in variants.items()} for name, variants in found.items()}


def table(found: dict[str, dict[str, Cost]]) -> str:
    """As it stands in benchmarks/README.md."""
    lines = [
        "| page | main thread | of it script | of it style and layout | all processes | drawing, of all processes |",
        "|---|---|---|---|---|---|",
    ]
    for name, variants in found.items():
        cost = variants["drawn"]
        drawing = cost.browser - variants["undrawn"].browser
        shares = (cost.main_thread, cost.script, cost.style_and_layout, cost.browser, drawing)
        lines.append(f"| {name} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="for each figure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    options = parser.parse_args()
    found = asyncio.run(measure_all(options.seconds, options.rounds))
    if options.json:
        print(json.dumps({name: {key: asdict(cost) for key, cost in costs.items()} for name, costs in found.items()}))
    else:
        print(f"{date.today()}. {describe()}. Goal: drawing below {GOAL:.0%} of a core\n\n{table(found)}")


if __name__ == "__main__":
    main()
