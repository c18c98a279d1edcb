"""A clean Debian in a folder, with the Python of an image: what can be tried in it needs no container engine.

Everything here needs root and the Debian package debootstrap, but `image_of` and `download_wheels`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PYTHON_PACKAGES = ("python3", "python3-venv", "python3-pip")


class Failed(Exception):
    """A check found something wrong, or what it needs could not be made."""


@dataclass(frozen=True)
class Image:
    """Python's version without the patch, and Debian's release: `3.13` and `trixie`."""

    python: str
    release: str


def image_of(tag: str) -> Image:
    """What `python:3.13.14-slim-trixie` has. Raises Failed for anything but an official slim image of one version."""
    match = re.fullmatch(r"python:(\d+\.\d+)\.\d+-slim-(\w+)", tag)
    if match is None:
        raise Failed(f"{tag} is not an official slim image of an exact version")
    return Image(match[1], match[2])


def download_wheels(version: str, requirements: Path, folder: Path) -> None:
    """Wheels for this machine, of every requirement for Python `version`. Raises Failed when one has none."""
    call([*_PIP, "download", "--dest", folder, *wheels_only(version, requirements, os.uname().machine)])


def wheels_only(version: str, requirements: Path, machine: str) -> list[str]:
    """pip's arguments for wheels that a Debian of this machine takes, such as `x86_64`."""
    tags = [f"manylinux_2_{glibc}_{machine}" for glibc in (17, 28, 34)]
    platforms = [f"--platform={tag}" for tag in (*tags, f"manylinux2014_{machine}")]
    return ["--only-binary=:all:", f"--python-version={version}", *platforms, f"--requirement={requirements}"]


_PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def make_clean_debian(image: Image, folder: Path, packages: Iterable[str] = ()) -> None:
    """Makes the folder the image's Debian, with its own Python as `python`, `pip`, and further packages.

    A folder that is there is complete, and kept. Raises Failed when Debian's Python is not the image's version.
    """
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        include = ",".join((*PYTHON_PACKAGES, *packages))
        call(["debootstrap", "--variant=minbase", f"--include={include}", image.release, unfinished])
        for name in ("python", "pip"):
            (unfinished / "usr/local/bin" / name).symlink_to(f"/usr/bin/{name}3")
        for marker in (unfinished / "usr/lib").glob("python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        unfinished.rename(folder)
    found = call(["chroot", folder, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).strip()
    if found != image.python:
        raise Failed(f"Debian {image.release} has Python {found}, and the image {image.python}")


def chrooted(
    root: Path, workdir: str, environment: Mapping[str, str], command: Sequence[str], user: str = "0:0"
) -> list[str]:
    """The command line that runs a command in a root, with these variables and no others."""
    variables = [f"{name}={value}" for name, value in environment.items()]
    enter = ["chroot", f"--userspec={user}", str(root), "/usr/bin/env", "--ignore-environment", f"--chdir={workdir}"]
    return [*enter, *variables, *command]


def call(command: Sequence[str | Path]) -> str:
    """What the command prints. Raises Failed with all of its output when its exit code is not 0."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise Failed(f"{command[0]} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    return ended.stdout
