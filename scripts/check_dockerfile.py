"""Prove the Dockerfile without a container engine: do what it says in a clean Debian, and use what comes out.

    python -m scripts.check_dockerfile                 as root on Linux, with debootstrap; some minutes
    python -m scripts.check_dockerfile --debian FOLDER keeps the clean Debian there for the next time

Both images are built (COPY, RUN, USER, ENV, WORKDIR, each as an engine would do it), then run as the process 1 of a
network and process namespace of their own, as `init: false` asks for. Checked: the linter's rules, the files inside,
wheels for both architectures, the user, health, a stream, ingress, and the end by STOPSIGNAL.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import yaml
from docker.utils.build import exclude_paths

from scripts.clean_debian import Failed, call, chrooted, download_wheels, image_of, make_clean_debian, wheels_only
from scripts.dockerfile import Instruction, Stage, ancestry, expand, read

REPOSITORY = Path(__file__).resolve().parents[1]
PLATFORMS = {"amd64": "x86_64", "aarch64": "aarch64"}
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 10
"""An engine kills what does not stop within this."""
STREAM_BYTES = 48_000


def main() -> int:
    options = _options()
    stages = read(REPOSITORY / "Dockerfile")
    if os.geteuid() != 0 or not shutil.which("debootstrap") or not shutil.which("unshare"):
        sys.exit("This needs root and the Debian packages debootstrap and util-linux: it makes a clean Debian.")
    with tempfile.TemporaryDirectory(prefix="voice-image-") as name:
        folder = Path(name)
        lint()
        context = build_context()
        image = image_of(stages[0].base)
        wheels = collect_wheels(image.python, folder / "wheels")
        base = options.debian or folder / "debian"
        make_clean_debian(image, base)
        packages = build(stages, "packages", base, folder / "packages", wheels, {})
        for target in ("server", "addon"):
            root = build(stages, target, base, folder / target, wheels, {"packages": packages})
            check_content(root, context)
            run(ancestry(stages, target), root, target)
    say("all of it holds")
    return 0


def lint() -> None:
    call([Path(sys.executable).with_name("hadolint"), REPOSITORY / "Dockerfile"])
    say("hadolint: clean")


def build_context() -> set[str]:
    """The files that an engine would be given, by .dockerignore, with docker's own library."""
    patterns = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    found = exclude_paths(str(REPOSITORY), patterns)
    return {path for path in found if (REPOSITORY / path).is_file()} - {"Dockerfile", ".dockerignore"}


def collect_wheels(version: str, folder: Path) -> Path:
    """Wheels of every requirement for this machine; asks for the other architecture's without fetching them."""
    requirements = REPOSITORY / "requirements.txt"
    for architecture, machine in PLATFORMS.items():
        if machine == os.uname().machine:
            download_wheels(version, requirements, folder)
        else:
            ask = ["install", "--quiet", "--dry-run", "--ignore-installed", f"--target={folder}"]
            call([sys.executable, "-m", "pip", *ask, *wheels_only(version, requirements, machine)])
        say(f"wheels for Python {version} on {architecture}: there for every requirement")
    return folder


def build(stages: list[Stage], target: str, base: Path, root: Path, wheels: Path, others: dict[str, Path]) -> Path:
    """Does what the target's stages say, in a copy of the base."""
    call(["cp", "--archive", base, root])
    shutil.copytree(wheels, root / "wheels")
    for stage in ancestry(stages, target):
        workdir = "/"
        for instruction in stage.instructions:
            if instruction.keyword == "WORKDIR":
                workdir = instruction.text
                _inside(root, workdir).mkdir(parents=True, exist_ok=True)
            elif instruction.keyword == "COPY":
                origin = instruction.options().get("from")
                *sources, destination = instruction.rest().split()
                _copy(others[origin] if origin else REPOSITORY, sources, _inside(root, workdir, destination))
            elif instruction.keyword == "RUN":
                # The only difference: packages come from a folder, as the clean Debian has no network of its own.
                environment = {**_environment(stages, target), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
                call(chrooted(root, workdir, environment, instruction.command))
    shutil.rmtree(root / "wheels")
    say(f"{target}: built")
    return root


def check_content(root: Path, context: set[str]) -> None:
    """The image has the program and nothing else of the repository."""
    there = {str(path.relative_to(root / "app")) for path in (root / "app").rglob("*") if path.is_file()}
    wanted = context - {"requirements.txt"}
    if there != wanted:
        raise Failed(f"in /app, but not expected: {sorted(there - wanted)}; missing: {sorted(wanted - there)}")
    strange = sorted(path for path in wanted if not re.match(r"(voice_streaming|static)/|[\w.]+\.py$|LICENSE$", path))
    if strange or any("__pycache__" in path or path.startswith("tests") for path in wanted):
        raise Failed(f"not for the image: {strange}")
    size_mb = sum(path.lstat().st_size for path in (root / "opt").rglob("*") if path.is_file()) / 1e6
    say(f"/app holds the program's {len(there)} files and nothing else; its packages are {size_mb:.0f} MB")


def run(stages: list[Stage], root: Path, target: str) -> None:
    """Starts the image's CMD with the demo stream and uses it; Failed when something is not as it should be."""
    environment = _environment(stages, target)
    user = _last(stages, "USER").text
    command = [*_last(stages, "CMD").command, "--demo"]
    health = list(_last(stages, "HEALTHCHECK").words or ())
    port = 8080
    if target == "addon":
        port = _as_addon(root, environment)
    with _container(root, environment, user, command) as (process, inside):
        _wait_until_healthy(process, lambda: call([*inside, *health]))
        say(f"{target}: healthy as user {user}, by the image's own HEALTHCHECK")
        answer = json.loads(call([*inside, "python", "-c", _FETCH, f"http://127.0.0.1:{port}/health", "100000"]))
        if answer["status"] != "ok" or not answer["tls_port"]:
            raise Failed(f"/health says {answer}")
        _check_stream(subprocess.check_output([*inside, "python", "-c", _FETCH, _STREAM, str(STREAM_BYTES)]))
        say(f"{target}: the MP3 of the demo stream plays, and HTTPS has its certificate")
        begun_s = time.monotonic()
        _stop(process, getattr(signal, _last(stages, "STOPSIGNAL").text))
        say(f"{target}: ended by {_last(stages, 'STOPSIGNAL').text} in {time.monotonic() - begun_s:.1f} s, exit code 0")
    _check_data(root, target)


def _as_addon(root: Path, environment: dict[str, str]) -> int:
    """What the Supervisor gives an add-on; returns the port that only ingress uses."""
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    environment.update(config["environment"])
    options = root / "data/options.json"
    options.write_text(json.dumps(config["options"]))
    options.chmod(0o600)
    return int(config["ingress_port"])


def _check_stream(mp3: bytes) -> None:
    with av.open(io.BytesIO(mp3), "r", format="mp3") as container:
        samples = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
    level = float(np.sqrt(np.mean(np.square(samples.astype(np.float64)))))
    if level < 0.005:
        raise Failed(f"the stream is silent (level {level:.4f})")


def _check_data(root: Path, target: str) -> None:
    folder = root / ("data/tls" if target == "addon" else "data/voice-streaming/tls")
    if not (folder / "authority.pem").exists():
        raise Failed(f"{target}: no certificate authority in {folder.relative_to(root)}")


_STREAM = "http://127.0.0.1:8081/stream/demo.mp3"
_FETCH = """
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=20) as reply:
    sys.stdout.buffer.write(reply.read(int(sys.argv[2])))
"""


@contextmanager
def _container(
    root: Path, environment: dict[str, str], user: str, command: Sequence[str]
) -> Iterator[tuple[subprocess.Popen[bytes], list[str]]]:
    """The command as process 1 of namespaces of its own, with loopback alone, and how to run another one beside it."""
    start = 'ip link set lo up && exec "$@"'
    chroot = chrooted(root, "/app", environment, command, user)
    isolated = [
        "unshare",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        f"--mount-proc={root}/proc",
        "sh",
        "-c",
        start,
        "sh",
    ]
    with subprocess.Popen([*isolated, *chroot]) as process:
        try:
            inside = ["nsenter", f"--net=/proc/{_child(process.pid)}/ns/net"]
            yield process, [*inside, *chrooted(root, "/app", environment, [], user)]
        finally:
            process.kill()


def _child(pid: int) -> int:
    """The only child of a process, as soon as there is one."""
    for _ in range(100):
        if children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            return int(children[0])
        time.sleep(0.05)
    raise Failed("the container did not start")


def _wait_until_healthy(process: subprocess.Popen[bytes], check: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            check()
        except Failed as error:
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise Failed(f"never healthy: {error}") from error
            time.sleep(0.5)
        else:
            return


def _stop(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    os.kill(_child(process.pid), number)
    try:
        code = process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"still there {STOP_TIMEOUT_S} s after {number.name}") from error
    if code != 0:
        raise Failed(f"exit code {code} after {number.name}")


def _environment(stages: list[Stage], target: str) -> dict[str, str]:
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    for stage in ancestry(stages, target):
        for name, value in stage.pairs("ENV").items():
            environment[name] = expand(value, environment)
    return environment


def _last(stages: list[Stage], keyword: str) -> Instruction:
    return next(found for stage in reversed(stages) if (found := stage.last(keyword)) is not None)


def _inside(root: Path, *parts: str) -> Path:
    return root / str(Path("/", *parts)).lstrip("/")


def _copy(source: Path, names: list[str], destination: Path) -> None:
    """As COPY does: a folder's content, or files into a folder; with the ignored ones left out."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc") if source == REPOSITORY else None
    for name in names:
        found = _inside(source, name)
        if found.is_dir():
            shutil.copytree(found, destination, symlinks=True, dirs_exist_ok=True, ignore=ignored)
        else:
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, destination)


def say(text: str) -> None:
    print(text, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--debian", type=Path, metavar="FOLDER", help="where to keep the clean Debian (default: nowhere)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(f"FAILED: {error}")
