#!/bin/bash
# commands: random sequences of all commands that change images, some of them killed
. "$(dirname "$0")/../lib/cli.sh"
need python3
count=25
[ -z "${SAN:-}" ] || count=2
[ -z "${SOAK:-}" ] || count=3000
own=()
if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then # mounts that nobody else sees
	own=(env OWN_MOUNTS=1 unshare -m)
fi
"${own[@]}" python3 "$root/tests/model/commands.py" "$BIN" "$TOOLS/flat" "${COUNT:-$count}" "${SEED:-1}" || fail "see above"
exit 0
