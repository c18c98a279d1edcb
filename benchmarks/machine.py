"""What the operating system says: a process's CPU time and memory, a core's load, a socket's drops.

On Linux from /proc. Elsewhere from `ps`, which knows neither threads of a process nor drops of a socket.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

LINUX = sys.platform == "linux"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def describe() -> str:
    """The machine in one line: processor, cores, memory, kernel, Python."""
    model = platform.processor() or platform.machine()
    if LINUX:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    system = f"{platform.system()} {platform.release()}"
    return f"{model}, {os.cpu_count()} cores, {memory_gb:.0f} GB, {system}, Python {platform.python_version()}"


def cpu_s(pid: int) -> float:
    """User and system time of that process, all its threads, in seconds."""
    if not LINUX:
        clock = _ps(pid, "time").replace("-", ":").split(":")
        return sum(float(part) * float(60**power) for power, part in enumerate(reversed(clock)))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def resident_bytes(pid: int) -> int:
    return _status(pid, "VmRSS") * 1024 if LINUX else int(_ps(pid, "rss")) * 1024


def threads(pid: int) -> float:
    """NaN outside Linux."""
    return _status(pid, "Threads") if LINUX else float("nan")


def descriptors(pid: int) -> int:
    """Open files and sockets of that process; 0 outside Linux."""
    return len(os.listdir(f"/proc/{pid}/fd")) if LINUX else 0


def core_busy_s(core: int) -> float:
    """How long that core has worked for anybody, steal time of other virtual machines included; 0 outside Linux."""
    if not LINUX:
        return 0.0
    line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} "))
    user, nice, system, _idle, _waiting, interrupts, softirqs, stolen = map(int, line.split()[1:9])
    return (user + nice + system + interrupts + softirqs + stolen) / _TICKS_PER_S


def socket_inodes(pid: int) -> set[int]:
    """The inodes of that process's sockets; empty outside Linux."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir() if LINUX else ():
        try:
            target = os.readlink(link)
        except FileNotFoundError:  # closed since the listing
            continue
        if target.startswith("socket:["):
            inodes.add(int(target[8:-1]))
    return inodes


def socket_drops(inodes: set[int]) -> int:
    """Datagrams that came to those UDP sockets while their buffers were full; 0 outside Linux."""
    if not LINUX:
        return 0
    rows = (line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:])
    return sum(int(row[12]) for row in rows if int(row[9]) in inodes)


def _status(pid: int, key: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def _ps(pid: int, column: str) -> str:
    return subprocess.run(["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
