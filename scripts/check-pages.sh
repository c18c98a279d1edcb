#!/usr/bin/env bash
# Checks the modules of the pages (static/*.js): types with TypeScript, style with eslint, and their unit tests, which
# need no browser. scripts/test.sh runs this, too. Node comes with requirements-dev.txt; the npm packages of
# package-lock.json (tests/test_clients.py needs two of them) are installed into node_modules once, and need no network
# after that. Where they cannot be had, nothing is checked and one line says so; with CI=true that fails.
set -eu

# shellcheck source=scripts/python-environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/python-environment.sh"

node="$environment/bin/node"
# Exists only where npm finished.
packages_stamp="$repository/node_modules/.installed"

# Ends without the checks.
unavailable() {
    echo "The modules of the pages are not checked: $1" >&2
    if [ "${CI:-}" = true ]; then
        exit 1
    fi
    exit 0
}

# Prints what an installation of the npm packages depends on: their list and the machine.
wanted_packages() {
    uname -sm
    cat package.json package-lock.json | cksum
}

# Makes node_modules hold what package-lock.json asks for. Runs npm only if that changed since it was installed last.
ensure_packages() {
    local wanted
    wanted=$(wanted_packages)
    if [ -e "$packages_stamp" ] && [ "$wanted" = "$(cat "$packages_stamp")" ]; then
        return
    fi
    echo "Installing package-lock.json" >&2
    rm -f "$packages_stamp"
    "$environment/bin/npm" ci --ignore-scripts --no-audit --no-fund --prefer-offline --loglevel=error >&2 ||
        unavailable "npm could not install package-lock.json (see above)."
    echo "$wanted" >"$packages_stamp"
}

ensure_environment requirements.txt requirements-dev.txt
cd "$repository"
"$node" --version >/dev/null 2>&1 || unavailable "$node does not run."
ensure_packages
"$node" node_modules/typescript/bin/tsc
"$node" node_modules/eslint/bin/eslint.js --max-warnings=0 eslint.config.js static tests/static tests/support/clients
"$node" --test --test-reporter=dot tests/static/*.test.js
