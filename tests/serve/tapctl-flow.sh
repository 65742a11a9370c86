#!/usr/bin/env bash
# tapctl-flow - what storage managers' scripts play: spawn, attach, open, pause, snapshot,
# unpause on another leaf, close, detach, free; create and destroy; formats and statuses
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/ctl.inc"
need qemu-io

vhd-util create -n leaf.vhd -s 64
new_disk "vhd:$T/leaf.vhd"
[ "$sock" = "$T/run/nbd$pid.$minor" ] || fail "open printed '$sock'"
check_out "pid=$pid minor=$minor state=0x0 args=vhd:$T/leaf.vhd" tap-ctl list
(cd "$T" && tap-ctl list -f leaf.vhd | grep -q "minor=$minor ") || fail "list -f with a relative name"
[ -z "$(tap-ctl list -f "$T/other.vhd")" ] || fail "list -f of another file"
io 'write -P 1 0 1M' flush

# a running leaf is in use
check_status 16 vhd-util write leaf.vhd --offset 0 </dev/null
check_status 16 vhd-util coalesce -n leaf.vhd

tap-ctl pause -p "$pid" -m "$minor" || fail "pause"
check_out "pid=$pid minor=$minor state=0x28 args=vhd:$T/leaf.vhd" tap-ctl list
[ "$(vhd-util check leaf.vhd)" = "leaf.vhd is valid" ] || fail "paused, it is not valid"
# a request while it is paused waits
(
	timeout 30 qemu-io -f raw -c 'write -P 9 2M 64k' "$uri" >"$T/held" 2>&1
	echo over >>"$T/held"
) &
held=$!
sleep 0.3
grep -q over "$T/held" && fail "a write was answered while the disk was paused"
vhd-util snapshot -n new.vhd -p leaf.vhd || fail "snapshot of a paused disk's leaf"
tap-ctl unpause -p "$pid" -m "$minor" -a "vhd:$T/new.vhd" || fail "unpause"
wait $held
grep -q 'wrote 65536' "$T/held" || fail "the held write: $(cat "$T/held")"
check_out "pid=$pid minor=$minor state=0x0 args=vhd:$T/new.vhd" tap-ctl list
io 'read -P 1 0 1M' 'read -P 9 2M 64k' 'write -P 2 512k 1M'

# an unpause that does not fit leaves it paused, and can be tried again
vhd-util create -n other.vhd -s 128
tap-ctl pause -p "$pid" -m "$minor" || fail "pause again"
check_status 124 tap-ctl unpause -p "$pid" -m "$minor" -a "vhd:$T/other.vhd"
tap-ctl list | grep -q 'state=0x228' || fail "after a failed unpause: $(tap-ctl list)"
check_status 2 tap-ctl unpause -p "$pid" -m "$minor" -a "vhd:$T/none.vhd"
tap-ctl unpause -p "$pid" -m "$minor" || fail "unpause on the same leaf"
io 'read -P 2 512k 1M'

# in one step
tap-ctl snapshot -p "$pid" -m "$minor" --name frozen.vhd || fail "live snapshot"
check_status 17 tap-ctl snapshot -p "$pid" -m "$minor" --name frozen.vhd
io 'read -P 2 512k 1M' 'write -P 3 0 4k'
tap-ctl snapshot -p "$pid" -m "$minor" --new-leaf "$T/top.vhd" || fail "live snapshot, new leaf"
[ "$(vhd-util query -n new.vhd -f)" = "hidden: 1" ] || fail "the old leaf is not hidden"
io 'read -P 3 0 4k' 'write -P 4 4k 4k'
check_out "pid=$pid minor=$minor state=0x0 args=vhd:$T/top.vhd" tap-ctl list

tap-ctl stats -p "$pid" -m "$minor" | python3 -c '
import json, sys
s = json.load(sys.stdin)
assert len(s["images"]) == 4, s["images"]
assert s["images"][0]["name"].endswith("top.vhd")
assert s["images"][3]["name"].endswith("leaf.vhd")
assert s["secs"][1] > 0 and s["reqs_outstanding"] == 0
assert set(("name", "hits", "fail", "driver")) <= set(s["images"][0])
' || fail "stats"
check_status 16 tap-ctl free -m "$minor"
check_status 16 tap-ctl detach -p "$pid" -m "$minor"
end_disk
[ -z "$(tap-ctl list)" ] || fail "list is not empty: $(tap-ctl list)"
ls "$T/run"/ctl* "$T/run"/nbd* 2>/dev/null && fail "sockets are left"
for image in top.vhd new.vhd frozen.vhd leaf.vhd; do
	[ "$(vhd-util check "$image")" = "$image is valid" ] || fail "$image: $(vhd-util check "$image")"
done
[ "$(vhd-util query -n top.vhd -d)" = "chain depth: 4" ] || fail "depth"
vhd-util convert top.vhd flat.raw || fail "convert"
qemu-io -f raw -c 'read -P 3 0 4k' -c 'read -P 4 4k 4k' -c 'read -P 1 8k 500k' -c 'read -P 2 512k 1M' \
	-c 'read -P 9 2M 64k' flat.raw | grep -q failed && fail "contents at the end"

# all in one
marker=$(tap-ctl create -a "vhd:$T/other.vhd") || fail "create"
[ "$marker" = "$T/run/tapdisk/tapdisk-0" ] || fail "create printed '$marker'"
line=$(tap-ctl list)
pid=${line#pid=}
pid=${pid%% *}
pids+=("$pid")
tap-ctl destroy -p "$pid" -m 0 || fail "destroy"
wait_for 10 gone "$pid"

# wrong arguments
check_status 22 tap-ctl nonsense
check_status 22 tap-ctl open -p 1
check_status 3 tap-ctl pause -p 999999 -m 0
check_status 95 tap-ctl major
exit 0
