#!/usr/bin/env bash
# Starts the server, from any directory; the arguments go to it (--help lists them).
# The first start installs what it needs into .venv, later ones start at once.
set -eu

# shellcheck source=scripts/python-environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/python-environment.sh"

ensure_environment requirements.txt
exec "$environment_python" "$repository/webrtc_server_relay.py" "$@"
