# Sourced by run.sh and test.sh: a virtual environment in .venv that matches the requirements files.
# Kept to what bash 3.2 and BSD tools know, because macOS ships those.
# shellcheck shell=bash

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
environment="$repository/.venv"
environment_python="$environment/bin/python"
# Exists only while no installation is under way: where it is missing, one was cut short, and everything is made anew.
finished="$environment/.finished"

fail() {
    echo "$1" >&2
    exit 1
}

# Succeeds if the interpreter $1 exists and is new enough.
is_usable_python() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# Succeeds if the tests run on the interpreter $1, too.
is_supported_python() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' >/dev/null 2>&1
}

# Prints the path of the first interpreter that is supported; if there is none, of one that is newer; else nothing.
find_python() {
    local name path newer=""
    for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
        path=$(command -v "$name") || continue
        case "$path" in
        "$environment"/*) continue ;; # An activated .venv cannot be made anew by itself.
        esac
        if is_supported_python "$path"; then
            echo "$path"
            return
        elif [ -z "$newer" ] && is_usable_python "$path"; then
            newer=$path
        fi
    done
    if [ -n "$newer" ]; then
        echo "$newer"
    fi
}

# Prints the name of the Debian package that gives the interpreter $1 a working `venv`.
venv_package() {
    "$1" -c 'import sys; print(f"python{sys.version_info[0]}.{sys.version_info[1]}-venv")'
}

create_environment() {
    local python
    python=$(find_python)
    [ -n "$python" ] || fail "Python 3.11 or newer is needed, and none was found. Install it, then start this again."
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        fail "$python cannot make virtual environments. Install what is missing with: sudo apt-get install $(venv_package "$python")"
    fi
    "$python" -m venv --clear "$environment" >&2 || fail "Could not make the virtual environment in $environment (see above)."
}

# Prints what an installation of the requirements file $1 depends on: its text and the interpreter.
requirements_stamp() {
    "$environment_python" -c 'import sys; print(sys.version)'
    cksum <"$repository/$1"
}

# Makes .venv hold what the given requirements files (names in the repository) ask for. Runs pip only if one of them
# changed since it was installed last.
ensure_environment() {
    local requirements stamp wanted
    if [ ! -e "$finished" ] || ! is_usable_python "$environment_python"; then
        echo "Making a virtual environment in $environment" >&2
        create_environment
    fi
    for requirements in "$@"; do
        stamp="$environment/.installed-$requirements"
        wanted=$(requirements_stamp "$requirements")
        if [ ! -e "$stamp" ] || [ "$wanted" != "$(cat "$stamp")" ]; then
            echo "Installing $requirements" >&2
            rm -f "$finished"
            "$environment_python" -m pip install --quiet --disable-pip-version-check --no-input \
                --requirement "$repository/$requirements" >&2 ||
                fail "Could not install $requirements (see above). Check the network connection, then start this again."
            echo "$wanted" >"$stamp"
        fi
    done
    touch "$finished"
}
