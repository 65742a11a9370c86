#!/usr/bin/env bash
# filters - the fault and log disks: errors, delays and torn writes by rule; a log that is replayed
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/ctl.inc"
need qemu-io
try() { timeout 30 qemu-io -f raw -c "$1" "$uri" 2>&1; }

vhd-util create -n d.vhd -s 16
new_disk "fault:write:nth=3:err=EIO;read:range=8M-9M:err=5;flush:nth=2:err=EIO;write:range=4M-5M:torn=4096,vhd:$T/d.vhd"
io 'write -P 1 0 4k' 'write -P 1 4k 4k'
try 'write -P 1 8k 4k' | grep -q 'Input/output error' || fail "the third write did not fail"
io 'write -P 2 8k 4k' 'read -P 0 9M 1M'
try 'read 8M 4k' | grep -q 'Input/output error' || fail "the read in the range did not fail"
try 'write -P 7 4M 8k' | grep -q 'Input/output error' || fail "the torn write did not fail"
io 'read -P 7 4M 4k' 'read -P 0 4100k 4k'
end_disk
[ "$(vhd-util check d.vhd)" = "d.vhd is valid" ] || fail "check"

# a delay delays only itself
new_disk "fault:read:range=0-1M:delay=1500,vhd:$T/d.vhd"
try 'read 0 4k' >slow &
slow=$!
start=$(date +%s%N)
io 'read 2M 4k'
[ $((($(date +%s%N) - start) / 1000000)) -lt 1200 ] || fail "a read elsewhere waited"
wait $slow
[ $((($(date +%s%N) - start) / 1000000)) -gt 1200 ] || fail "the delayed read did not wait"
end_disk
check_status 22 tapdisk "fault:nonsense,vhd:d.vhd" --nbd "unix:$T/s"
check_status 22 tapdisk "fault:write:err=EIO" --nbd "unix:$T/s"

# recorded and replayed: the same disk
rm d.vhd
vhd-util create -n d.vhd -s 16
new_disk "log:$T/log,vhd:$T/d.vhd"
io 'write -P 3 0 64k' 'write -P 4 1000 999' flush 'write -P 5 2M 1M' 'write -z 2M 64k' flush 'write -P 6 0 512'
end_disk
truncate -s 16M replayed
"$TOOLS/replay" log replayed >told || fail "replay"
vhd-util compare d.vhd replayed || fail "replayed, it differs"
truncate -s 0 first
truncate -s 16M first
"$TOOLS/replay" log first 1 >/dev/null || fail "replay up to a flush"
qemu-io -f raw -c 'read -P 4 1000 999' -c 'read -P 0 2M 1M' first | grep -q failed && fail "up to the first flush"
exit 0
