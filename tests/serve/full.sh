#!/usr/bin/env bash
# full - a full disk under load: the guest waits, sees no error; space is made, all goes on
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/ctl.inc"
need qemu-io
small_disk 24m
vhd-util create -n "$T/small/d.vhd" -s 64
head -c 8M /dev/zero | tr '\0' x >"$T/small/ballast"
new_disk "vhd:$T/small/d.vhd"
timeout 60 qemu-io -f raw -c 'write -P 1 0 12M' -c 'write -P 2 12M 10M' -c flush -c 'read -P 1 0 12M' \
	-c 'read -P 2 12M 10M' "$uri" >"$T/out" 2>&1 &
writer=$!
stalled() { tap-ctl stats -p "$pid" -m "$minor" | grep -q '"status": "stalled"'; }
wait_for 20 stalled
tap-ctl stats -p "$pid" -m "$minor" | grep -q 'No space left' || fail "the reason is not told"
kill -0 $writer || fail "the guest did not wait: $(cat "$T/out")"
rm "$T/small/ballast"
tap-ctl retry -p "$pid" -m "$minor" || fail "retry"
wait $writer || fail "the guest saw an error: $(cat "$T/out")"
grep -q failed "$T/out" && fail "$(cat "$T/out")"
[ "$(grep -c -E 'wrote|read' "$T/out")" -ge 4 ] || fail "$(cat "$T/out")"
end_disk
[ "$(vhd-util check "$T/small/d.vhd")" = "$T/small/d.vhd is valid" ] || fail "check"

exit 0
