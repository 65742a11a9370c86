#!/usr/bin/env bash
# live - random sequences of what may happen to a chain that is served and written by several clients;
# some of the servers are killed
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/ctl.inc"
/usr/bin/python3 -c "import nbd" 2>/dev/null || skip "python3-libnbd is not installed"
count=20
[ -z "${SAN:-}" ] || count=4
[ -z "${SOAK:-}" ] || count=3000
/usr/bin/python3 "$root/tests/model/live.py" "$BIN" "$TOOLS/flat" "${COUNT:-$count}" "${SEED:-1}" || fail "see above"
exit 0
