#!/usr/bin/env bash
# Checks everything: style, types and tests, these on every supported Python that is at hand and on the image's. Without
# arguments branch coverage of voice_streaming/ is printed too, and must be 95 % at least.
# Arguments go to pytest, and then the tests run on one Python only (for example: scripts/test.sh -k mp3).
#
# The tests drive real browsers and players. What is missing of them is installed first where that is possible without
# a question (as root or with passwordless sudo on Debian and its relatives; with Homebrew on macOS). Tests whose
# browser or player is missing are skipped and say so; with CI=true they fail.
set -eu

# shellcheck source=scripts/python-environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/python-environment.sh"

debian_packages="chromium firefox-esr vlc-bin vlc-plugin-base mpv ffmpeg espeak-ng pulseaudio pulseaudio-utils icecast2 iproute2 curl shellcheck libnss3-tools nginx-light haproxy redis-server openssl apparmor systemd debootstrap gstreamer1.0-nice gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad python3-gi gir1.2-gst-plugins-base-1.0 gir1.2-gst-plugins-bad-1.0 golang-go golang-github-pion-webrtc.v3-dev simple-whip-client gcc libc6-dev"
homebrew_packages="ffmpeg mpv espeak-ng shellcheck redis"

# Runs a command as root, without ever asking for a password; fails if that is not possible.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

# Prints those of the given Debian packages that are not installed.
missing_debian_packages() {
    local package
    for package in "$@"; do
        if [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            echo "$package"
        fi
    done
}

install_debian_packages() {
    local wanted python missing
    wanted=$debian_packages
    python=$(find_python)
    if [ -n "$python" ] && ! "$python" -c 'import ensurepip' >/dev/null 2>&1; then
        wanted="$wanted $(venv_package "$python")"
    fi
    # shellcheck disable=SC2086  # the list is meant to become several words
    missing=$(missing_debian_packages $wanted | tr '\n' ' ')
    if [ -z "$missing" ]; then
        return
    fi
    if ! as_root true 2>/dev/null; then
        echo "Not installed: ${missing}(the tests that need them will say so). To install: sudo apt-get install $missing" >&2
        return
    fi
    echo "Installing $missing" >&2
    # --no-remove: a desktop's own sound server must never be replaced for the sake of a test.
    # shellcheck disable=SC2086  # the list is meant to become several words
    as_root apt-get update --quiet=2 </dev/null >&2 &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-remove --no-install-recommends \
            $missing </dev/null >&2 ||
        echo "Could not install $missing(see above); the tests that need them will say so." >&2
}

# Puts Prometheus' promtool into the cache. Debian has it in a package that also starts a server, which would look around
# on the network: the program is taken out of the package, and nothing is installed.
fetch_promtool() {
    local folder cache="$HOME/.cache/voice-streaming"
    if command -v promtool >/dev/null || [ -x "$cache/promtool" ]; then
        return
    fi
    folder=$(mktemp -d)
    if (
        cd "$folder" &&
            { apt-get download --quiet=2 prometheus || { as_root apt-get update --quiet=2 && apt-get download --quiet=2 prometheus; }; } &&
            dpkg-deb --extract prometheus_*.deb . &&
            mkdir -p "$cache" &&
            cp usr/bin/promtool "$cache/promtool.new" &&
            mv "$cache/promtool.new" "$cache/promtool"
    ) </dev/null >&2; then
        echo "promtool is in $cache" >&2
    else
        echo "Could not download promtool (package prometheus); the test that needs it will say so." >&2
    fi
    rm -rf "$folder"
}

install_homebrew_packages() {
    local package
    for package in $homebrew_packages; do
        command -v "$package" >/dev/null ||
            brew install --quiet "$package" </dev/null >&2 ||
            echo "Could not install $package (see above); the tests that need it will say so." >&2
    done
}

# Prints the newest Python, from 3.12 on, that is on PATH or pyenv's; nothing if there is none.
find_newer_python() {
    local version path
    for version in 3.14 3.13 3.12; do
        for path in "$(command -v "python$version" || true)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python; do
            if [ -x "$path" ] && "$path" -c 'import ensurepip, venv' >/dev/null 2>&1; then
                echo "$path"
                return
            fi
        done
    done
}

# FFmpeg with WHIP comes with PyAV 19, which needs Python 3.12: an environment of its own.
ensure_ffmpeg_environment() {
    local folder="$environment/ffmpeg" python
    if [ -x "$folder/bin/python" ] && "$folder/bin/python" -c 'import av' >/dev/null 2>&1; then
        return
    fi
    python=$(find_newer_python)
    if [ -z "$python" ]; then
        echo "No Python 3.12 or newer: the tests with FFmpeg's WHIP will say so." >&2
        return
    fi
    "$python" -m venv --clear "$folder" >&2 &&
        "$folder/bin/python" -m pip --quiet --disable-pip-version-check install 'av>=19' >&2 ||
        echo "Could not install PyAV 19 (see above); the tests that need it will say so." >&2
}

if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
    install_debian_packages
    fetch_promtool
elif command -v brew >/dev/null; then
    install_homebrew_packages
fi

ensure_environment requirements.txt requirements-dev.txt
ensure_ffmpeg_environment
cd "$repository"
"$environment_python" -m ruff check .
"$environment_python" -m ruff format --check .
# Types beside the pages: each of the two keeps one core busy.
"$environment_python" -m mypy &
types=$!
pages=0
bash scripts/check-pages.sh || pages=$?
wait "$types"
[ "$pages" = 0 ] || exit "$pages"
"$environment/bin/lint-imports" --no-logo --no-cache

# Each process that runs tests would compile all of them by itself.
unset PYTHONDONTWRITEBYTECODE

# pytest, whose verdict goes to `verdict`: the first failure, or 5 if no run found a test that was asked for.
verdict=5
run_tests() {
    local code=0
    "$environment_python" -m pytest "$@" || code=$?
    if [ "$code" != 5 ] && { [ "$verdict" = 5 ] || [ "$verdict" = 0 ]; }; then
        verdict=$code
    fi
}

# pytest heeds its last -m alone, so one that is given becomes part of those below.
versions=$([ $# = 0 ] && echo all || echo one)
marks=""
others=()
while [ $# -gt 0 ]; do
    if [ "$1" = -m ] && [ $# -gt 1 ]; then
        marks="($2) and "
        shift
    else
        others+=("$1")
    fi
    shift
done
set -- ${others[@]+"${others[@]}"}

# Several files side by side: those that drive browsers and players, as many as there are cores; the others, which mostly
# wait, six, and what they cover is measured; and then, by themselves, those whose result other work would spoil.
coverage=(--no-cov)
if [ "$versions" = all ]; then
    coverage=(--cov --cov-report=)
fi
side_by_side=(--dist loadfile --no-loadscope-reorder)
# To look for tests that are both e2e and not takes ten seconds.
[ "$marks" = "(not e2e) and " ] ||
    run_tests "$@" --no-cov -m "${marks}e2e and not alone" --numprocesses auto --maxprocesses 4 "${side_by_side[@]}"
run_tests "$@" "${coverage[@]}" -m "${marks}not e2e and not alone" --numprocesses 6 "${side_by_side[@]}"
run_tests "$@" --no-cov -m "${marks}alone"
if [ "$versions" = all ]; then
    if ! "$environment/bin/coverage" report --fail-under=95 && [ "$verdict" = 0 ]; then
        verdict=2
    fi
    "$environment_python" -m scripts.check_versions || verdict=1
fi
exit "$verdict"
