#!/usr/bin/env bash
# json - what tap-ctl prints with --json fits its schemas
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/ctl.inc"
need python3 qemu-io
vhd-util create -n d.vhd --size 64M --max-size 256M && vhd-util snapshot -n c.vhd -p d.vhd -e || fail "make"
vhd-util create -n e.vhd --size 64M --max-size 256M || fail "make"
mkdir out
tap-ctl list --json >out/list-none.json || fail "list without a run directory"
new_disk vhd:c.vhd
timeout 30 tap-ctl events -p "$pid" --count 6 --json >events &
listener=$!
sleep 0.5
io 'write -P 1 0 64k' 'read 0 1M' 'discard 0 64k' flush
tell() {
	local name=$1
	shift
	tap-ctl "$@" --json >"out/$name.json" || fail "$*"
}
tell list list
tell list-minor list -m "$minor"
tell list-other list -t none
tell stats stats -p "$pid" -m "$minor"
tell clients clients -p "$pid"
tell snapshot snapshot -p "$pid" -m "$minor" --name s1.vhd
tell throttle throttle -p "$pid" -m "$minor" --iops 1000
tell retry retry -p "$pid" -m "$minor"
tell export export -p "$pid" -m "$minor" --nbd "unix:$T/more"
mkfifo hold
qemu-io -f raw -r "nbd+unix:///?socket=$T/more" <hold >/dev/null 2>&1 &
exec 7>hold
connected() { tap-ctl clients -p "$pid" --json | grep -q '"requests"'; }
wait_for 10 connected
tell clients-one clients -p "$pid"
exec 7>&-
tap-ctl pause -p "$pid" -m "$minor" || fail "pause"
tell list-paused list
tell stats-paused stats -p "$pid" -m "$minor"
tap-ctl unpause -p "$pid" -m "$minor" || fail "unpause"
tell unexport unexport -p "$pid" -m "$minor" --nbd "unix:$T/more"
tap-ctl close -p "$pid" -m "$minor" || fail "close"
tell list-closed list
tell stats-closed stats -p "$pid" -m "$minor"
tap-ctl open -p "$pid" -m "$minor" -a vhd:e.vhd >/dev/null || fail "open"
tell resize resize -p "$pid" -m "$minor" --size 128M
wait $listener || fail "events"
check_schema out/*.json
check_schema --lines events
[ "$(wc -l <events)" -ge 6 ] || fail "events: $(cat events)"
end_disk
exit 0
