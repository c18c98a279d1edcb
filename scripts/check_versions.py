"""Runs the unit tests on every supported Python: those that are at hand, and the image's in any case.

    python -m scripts.check_versions         on all of them, but on that which runs this
    python -m scripts.check_versions 3.14    on these alone

`python3.12` and so on are looked for on PATH. Where the image's version is not there, a clean Debian with it is made,
as root on Debian and its relatives, with debootstrap. Environments and the Debian are kept for the next time in
$XDG_CACHE_HOME/voice-streaming (usually ~/.cache/voice-streaming), about 1 GB. With CI=true it is a failure if the
image's version cannot be had; otherwise that is said, and the others count.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scripts.clean_debian import Failed, Image, call, chrooted, download_wheels, image_of, make_clean_debian
from scripts.dockerfile import read

REPOSITORY = Path(__file__).resolve().parents[1]
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
REQUIREMENTS = ("requirements.txt", "requirements-dev.txt")
PYTEST = (
    *("-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-m", "not e2e and not alone and not any_python"),
    *("--numprocesses", "6", "--dist", "loadfile", "--no-loadscope-reorder"),
)
DEBIAN_PACKAGES = ("espeak-ng", "iproute2", "openssl", "procps")
"""What the unit tests start besides Python."""
DEBIAN_ENVIRONMENT = "/opt/voice-streaming-tests"
ISOLATED = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child")
"""In namespaces that end when this program does."""
MOUNT = """
mount --rbind "$2" "$2"
mount --bind "$1" "$2/repository"
mount --rbind /dev "$2/dev"
mount --rbind /sys "$2/sys"
mount -t tmpfs tmpfs "$2/tmp"
shift 2
exec "$@"
"""
"""Gives the clean Debian what the tests need of the machine, while they run; `ip` wants a / that is a mount."""


class Unavailable(Exception):
    """The image's Python cannot be had here."""


def main() -> int:
    versions = _options().versions
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voice-streaming"
    image = image_of(read(REPOSITORY / "Dockerfile")[0].base)
    failed = [version for version in versions if not check(version, image, cache)]
    if failed:
        say(f"Unit tests fail on Python {', '.join(failed)}")
    return 1 if failed else 0


def check(version: str, image: Image, cache: Path) -> bool:
    """Whether the unit tests pass on this version, or may be left out."""
    if interpreter := find_interpreter(version):
        say(f"Unit tests on Python {version}, {interpreter}")
        with environment(interpreter, cache / f"python-{version}") as python:
            return passes([str(python), *PYTEST])
    if version != image.python:
        say(f"Python {version} is left out: there is no python{version} on PATH")
        return True
    try:
        require_debootstrap()
    except Unavailable as missing:
        needed = os.environ.get("CI") == "true"
        say(f"Python {version}, the image's, {'is needed when CI=true' if needed else 'is left out'}: {missing}")
        return not needed
    say(f"Unit tests on Python {version} in a clean Debian {image.release}, as in the image")
    with debian(image, cache) as enter:
        return passes([*enter, f"{DEBIAN_ENVIRONMENT}/bin/python", *PYTEST])


def find_interpreter(version: str) -> Path | None:
    """The interpreter of this version on PATH, if it runs: a command of pyenv's may only name what could be there."""
    path = shutil.which(f"python{version}")
    if path is None:
        return None
    probe = [path, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"]
    answer = subprocess.run(probe, capture_output=True, text=True, check=False)
    return Path(path) if answer.returncode == 0 and answer.stdout.strip() == version else None


def require_debootstrap() -> None:
    """Raises Unavailable with the reason why no clean Debian can be made."""
    if not shutil.which("debootstrap") or not shutil.which("unshare"):
        raise Unavailable("the Debian packages debootstrap and util-linux are needed")
    if os.geteuid() != 0:
        raise Unavailable("only root can make a clean Debian")


@contextmanager
def environment(interpreter: Path, folder: Path) -> Iterator[Path]:
    """The Python of an environment with the requirements; nobody makes it anew meanwhile."""
    python = folder / "bin/python"
    with held(folder) as (stamp, alone):
        wanted = f"{call([interpreter, '-c', 'import sys; print(sys.version)'])}{requirements_sum()}"
        if not stamp.exists() or stamp.read_text() != wanted:
            stamp.unlink(missing_ok=True)
            call([interpreter, "-m", "venv", "--clear", "--without-pip", folder])
            pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(python)]
            call([*pip, "install", "--requirement", str(REPOSITORY / REQUIREMENTS[-1])])
            stamp.write_text(wanted)
        alone.release()
        yield python


@contextmanager
def debian(image: Image, cache: Path) -> Iterator[list[str]]:
    """The beginning of a command that runs in a clean Debian, in the repository, with DEBIAN_ENVIRONMENT there."""
    root = cache / f"debian-{image.release}-{zlib.crc32(' '.join(DEBIAN_PACKAGES).encode()):08x}"
    with held(root) as (stamp, alone):
        if not stamp.exists() or stamp.read_text() != requirements_sum():
            stamp.unlink(missing_ok=True)
            make_clean_debian(image, root, DEBIAN_PACKAGES)
            install_in(root, image.python)
            (root / "repository").mkdir(exist_ok=True)
            stamp.write_text(requirements_sum())
        alone.release()
        variables = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"}
        variables |= {name: os.environ[name] for name in ("CI",) if name in os.environ}
        mounted = [*ISOLATED, f"--mount-proc={root}/proc", "sh", "-euc", MOUNT, "sh", str(REPOSITORY), str(root)]
        yield [*mounted, *chrooted(root, "/repository", variables, [])]


def install_in(root: Path, version: str) -> None:
    """Makes DEBIAN_ENVIRONMENT. Wheels come from outside, as the clean Debian knows no package index."""
    with tempfile.TemporaryDirectory(dir=root, prefix="wheels-") as name:
        folder = Path(name)
        download_wheels(version, REPOSITORY / REQUIREMENTS[-1], folder)
        for requirements in REQUIREMENTS:
            shutil.copy(REPOSITORY / requirements, folder)
        inside = f"/{folder.name}"
        variables = {"PATH": "/usr/bin:/bin", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": inside, "HOME": "/root"}
        call(chrooted(root, "/", variables, ["python3", "-m", "venv", "--clear", DEBIAN_ENVIRONMENT]))
        install = [f"{DEBIAN_ENVIRONMENT}/bin/python", "-m", "pip", "install", "--quiet", "--no-cache-dir"]
        call(chrooted(root, inside, variables, [*install, "--requirement", REQUIREMENTS[-1]]))


class Lock:
    """A file that is locked for its holder alone, until `release` lets others in who only use what it stands for."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def release(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)


@contextmanager
def held(folder: Path) -> Iterator[tuple[Path, Lock]]:
    """The folder's stamp, which says what it was made for, and a lock: two runs never make the same folder at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as file:
        yield folder.with_name(f"{folder.name}.made-for"), Lock(file.fileno())


def requirements_sum() -> str:
    return f"{zlib.crc32(b''.join((REPOSITORY / name).read_bytes() for name in REQUIREMENTS)):08x}"


def passes(command: Sequence[str]) -> bool:
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode == 0


def say(text: str) -> None:
    print(text, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    others = [version for version in SUPPORTED if version != running]
    parser.add_argument("versions", nargs="*", default=others, metavar="VERSION", help=f"of {', '.join(SUPPORTED)}")
    options = parser.parse_args()
    if unknown := sorted(set(options.versions) - set(SUPPORTED)):
        parser.error(f"not supported: {', '.join(unknown)}")
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(f"FAILED: {error}")
