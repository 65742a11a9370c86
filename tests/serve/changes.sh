#!/usr/bin/env bash
# changes - logs of changed blocks: what is marked and when, pause, snapshot and another log, growth,
# kill -9, logs that do not fit, cannot be written or are gone
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/ctl.inc"
need qemu-io
K=$((64 << 10))

# marked LOG: numbers of its blocks
marked() {
	cbt-util get -n "$1" -b | python3 -c '
import sys
bits = sys.stdin.buffer.read()
print(*(k for k in range(len(bits) * 8) if bits[k // 8] >> k % 8 & 1))'
}
says() { # says LOG BLOCKS…: exactly these are marked
	local log=$1
	shift
	[ "$(marked "$log")" = "$*" ] || fail "$log: marked '$(marked "$log")' instead of '$*'"
}
flag() { [ "$(cbt-util get -n "$1" -f)" = "$2" ] || fail "$1: its flag is not $2"; }
log_of() { cbt-util create -n "$1" -s $((64 << 20)) && cbt-util set -n "$1" -f 1; }

vhd-util create -n leaf.vhd -s 64
log_of one.log
check_status 3 tap-ctl open -p 1 -m 0 -a "vhd:$T/leaf.vhd" -C one.log # no such process: nothing happens
flag one.log 1
new_disk "vhd:$T/leaf.vhd" -C one.log
flag one.log 0
says one.log
check_out "pid=$pid minor=$minor state=0x0 args=vhd:$T/leaf.vhd" tap-ctl list
[ "$(tap-ctl stats -p "$pid" -m "$minor" | python3 -c 'import json, sys
print(json.load(sys.stdin)["changed_log"])')" = "$T/one.log" ] || fail "stats do not name the log"
# reads and flushes mark nothing; writes, zeroes and trims each block that they touch
io 'read 0 1M' flush
says one.log
io 'write 0 512' "write $((3 * K - 1)) 2" "write -z $((8 * K)) $((2 * K))" "discard $((16 * K)) 1" \
	"write $((64 * K * 16 - 512)) 512" flush
says one.log 0 2 3 8 9 16 1023
check_status 16 cbt-util set -n one.log -f 1
log_of two.log
check_status 16 cbt-util coalesce -p one.log -c two.log

# the flow of a backup: pause, snapshot, go on with another log
tap-ctl pause -p "$pid" -m "$minor" || fail "pause"
flag one.log 1
says one.log 0 2 3 8 9 16 1023
vhd-util snapshot -n new.vhd -p leaf.vhd || fail "snapshot"
tap-ctl unpause -p "$pid" -m "$minor" -a "vhd:$T/new.vhd" -c two.log || fail "unpause"
flag one.log 1
flag two.log 0
io "write $((5 * K)) 64k"
tap-ctl pause -p "$pid" -m "$minor" || fail "pause"
flag two.log 1
says two.log 5
says one.log 0 2 3 8 9 16 1023
# without a word the same goes on
tap-ctl unpause -p "$pid" -m "$minor" || fail "unpause"
flag two.log 0
io "write $((6 * K)) 1" flush
says two.log 5 6

# a log that does not fit, or is none: the disk stays paused, and what was stays as it is
tap-ctl pause -p "$pid" -m "$minor" || fail "pause"
cbt-util create -n big.log -s 128M && cbt-util set -n big.log -f 1
check_status 22 tap-ctl unpause -p "$pid" -m "$minor" -c big.log
flag big.log 1
check_status 2 tap-ctl unpause -p "$pid" -m "$minor" -c none.log
echo no log >text
check_status 117 tap-ctl unpause -p "$pid" -m "$minor" -c text
flag two.log 1
log_of used.log
# and one is for one disk
tap-ctl unpause -p "$pid" -m "$minor" -c used.log || fail "unpause"
vhd-util create -n second.vhd -s 64
tap-ctl attach -p "$pid" -m 7 || fail "attach"
check_status 16 tap-ctl open -p "$pid" -m 7 -a "vhd:$T/second.vhd" -C used.log
tap-ctl open -p "$pid" -m 7 -a "vhd:$T/second.vhd" -R -C two.log >/dev/null || fail "open, read-only"
flag two.log 1 # nothing will be written
tap-ctl close -p "$pid" -m 7 && tap-ctl detach -p "$pid" -m 7 && tap-ctl free -m 7 || fail "close"
# one that was taken away meanwhile is not missed; an empty name ends logging
tap-ctl pause -p "$pid" -m "$minor" || fail "pause"
rm used.log
tap-ctl unpause -p "$pid" -m "$minor" || fail "unpause without the log"
io 'write 0 512'
tap-ctl pause -p "$pid" -m "$minor" && tap-ctl unpause -p "$pid" -m "$minor" -c two.log || fail "unpause"
io 'write 0 512'
tap-ctl pause -p "$pid" -m "$minor" && tap-ctl unpause -p "$pid" -m "$minor" -c '' || fail "unpause"
io "write $((9 * K)) 512" flush
says two.log 0 5 6
flag two.log 1
tap-ctl stats -p "$pid" -m "$minor" | grep -q '"changed_log": null' || fail "stats name a log"
end_disk

# create; growth; a live snapshot goes on with the same log; close
vhd-util create -n grow.vhd -s 64 -S 1024
cbt-util create -n grow.log -s $((3 << 20)) && cbt-util set -n grow.log -f 1 # grows at once
tap-ctl create -a "vhd:$T/grow.vhd" -C grow.log >/dev/null || fail "create"
line=$(tap-ctl list)
pid=${line#pid=} pid=${pid%% *} minor=${line##*minor=} minor=${minor%% *}
pids+=("$pid")
uri="nbd+unix:///?socket=$T/run/nbd$pid.$minor"
[ "$(cbt-util get grow.log -s)" = $((64 << 20)) ] || fail "a small log did not grow"
io "write $((K * 10)) 1M" flush
tap-ctl resize -p "$pid" -m "$minor" -s 900 || fail "resize"
io "write $((K * 14000)) 1" flush
grown() { [ "$(cbt-util get grow.log -s)" = $((900 << 20)) ]; }
wait_for 10 grown # while it runs
tap-ctl snapshot -p "$pid" -m "$minor" --name frozen.vhd || fail "snapshot"
io "write $((K * 30)) 512" flush
tap-ctl destroy -p "$pid" -m "$minor" || fail "destroy"
wait_for 10 gone "$pid"
[ "$(cbt-util get grow.log -s)" = $((900 << 20)) ] || fail "the log did not grow with its disk"
flag grow.log 1
says grow.log 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 30 14000

# kill -9: it vouches for nothing, whoever uses it later, until somebody says so
vhd-util create -n killed.vhd -s 64
log_of killed.log
new_disk "vhd:$T/killed.vhd" -C killed.log
io "write $((K * 2)) 512" flush
kill -9 "$pid"
wait_for 10 gone "$pid"
flag killed.log 0
says killed.log 2
tap-ctl list >/dev/null 2>&1
tap-ctl free -m "$minor" 2>/dev/null
new_disk "vhd:$T/killed.vhd" -C killed.log
io "write $((K * 4)) 512"
end_disk
flag killed.log 0
says killed.log 2 4
# SIGTERM is a clean end
cbt-util set -n killed.log -f 1
new_disk "vhd:$T/killed.vhd" -C killed.log
io "write $((K * 7)) 512"
kill -TERM "$pid"
wait_for 10 gone "$pid"
flag killed.log 1
says killed.log 2 4 7
tap-ctl free -m "$minor" 2>/dev/null

# no room for the log: refused when it is opened, not when the guest writes
if [ "$(id -u)" = 0 ] && mkdir small && mount -t tmpfs -o size=64k none small 2>/dev/null; then
	at_exit "umount '$T/small'"
	vhd-util create -n wide.vhd -s 1000000
	cbt-util create -n small/wide.log -s 1M && cbt-util set -n small/wide.log -f 1 || fail "create"
	head -c 100000 /dev/zero >small/fill 2>/dev/null
	check_status 28 tap-ctl create -a "vhd:$T/wide.vhd" -C small/wide.log
	flag small/wide.log 1
	rm small/fill
fi
exit 0
