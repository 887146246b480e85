#!/usr/bin/env bash
# `make run`: bring the stack up, play the demo, and stay until Ctrl-C, which stops everything; DETACH=1 leaves it up instead.
# Arguments go to `wardstream demo`. The exit code is the demo's.
set -euo pipefail
wardstream="$(dirname "$0")/../../.venv/bin/wardstream"

"$wardstream" up --detach
if [ -n "${DETACH:-}" ] && [ "$DETACH" != 0 ]; then
    exec "$wardstream" demo "$@"
fi

trap 'trap "" INT TERM; "$wardstream" down' EXIT
trap 'exit 130' INT TERM

code=0
"$wardstream" demo "$@" || code=$?
supervisor="$("$wardstream" status --json | sed -n 's/.*"supervisor": {"pid": \([0-9]*\).*/\1/p')"
if [ -n "$supervisor" ]; then
    echo "The stack is up: Ctrl-C stops everything." >&2
    # Ends by itself when the stack is stopped elsewhere (`make down` in another terminal).
    tail --pid="$supervisor" -f /dev/null &
    wait $! || true
fi
exit "$code"
