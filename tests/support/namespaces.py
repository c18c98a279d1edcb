"""A second machine: a network namespace at the other end of a cable that a test can pull."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.support.availability import require_linux, require_program, unavailable
from tests.support.machine_addresses import addresses_that_change


@dataclass(frozen=True)
class OtherMachine:
    """`name` is the namespace's; `here` and `there` are the addresses at the two ends of the cable."""

    name: str
    here: str
    there: str

    @property
    def next_address(self) -> str:
        """What `change_address` gives it."""
        return self.there.replace("10.213.", "10.214.", 1)

    async def change_address(self) -> None:
        """It has `next_address` instead of `there`, as a machine has that came into another network."""
        await _ip("route", "add", self.next_address, "dev", f"v{self.name.replace('voice', 'cable')}")
        await _ip("-netns", self.name, "address", "delete", f"{self.there}/30", "dev", "cable")
        await _ip("-netns", self.name, "address", "add", f"{self.next_address}/32", "dev", "cable")
        await _ip("-netns", self.name, "route", "add", self.here, "dev", "cable", "src", self.next_address)

    async def pull_cable(self) -> None:
        await _ip("-netns", self.name, "link", "set", "cable", "down")

    async def plug_cable(self) -> None:
        await _ip("-netns", self.name, "link", "set", "cable", "up")


@asynccontextmanager
async def other_machine() -> AsyncIterator[OtherMachine]:
    """It exists while the block runs. Only root can have one."""
    require_linux("A network namespace")
    require_program("ip")
    if os.geteuid() != 0:
        unavailable("a network namespace needs root")
    number = random.SystemRandom().randrange(1, 16_000)
    name, here_end = f"voice{number}", f"vcable{number}"
    # A network of four addresses somewhere in 10.213.0.0/16: others may run these tests on the same machine.
    network, last = f"10.213.{number // 64}", number % 64 * 4
    machine = OtherMachine(name, f"{network}.{last + 1}", f"{network}.{last + 2}")
    try:
        await _ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        unavailable(f"no network namespace can be made here: {error.stderr.decode().strip()}")
    try:
        await _ip("link", "add", here_end, "type", "veth", "peer", "name", "cable", "netns", name)
        # Without an address of IPv6, which would come a second later.
        await _ip("link", "set", here_end, "addrgenmode", "none")
        await _ip("address", "add", f"{machine.here}/30", "dev", here_end)
        await _ip("link", "set", here_end, "up")
        await _ip("-netns", name, "address", "add", f"{machine.there}/30", "dev", "cable")
        await _ip("-netns", name, "link", "set", "cable", "up")
        yield machine
    finally:
        await _ip("netns", "delete", name)


async def _ip(*arguments: str) -> None:
    async with addresses_that_change():
        await asyncio.to_thread(subprocess.run, ["ip", *arguments], check=True, capture_output=True, timeout=10)
