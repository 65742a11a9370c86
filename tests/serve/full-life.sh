#!/usr/bin/env bash
# full-life - while the disk is full and a guest's write waits for room: others read, write in place and flush;
# the image can be paused, resumed, closed, and the server ended; a guest that gives up leaves nothing behind
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/ctl.inc"
need qemu-io
small_disk 24m
stalled() { tap-ctl stats -p "$pid" -m "$minor" | grep -q '"status": "stalled"'; }
moving() { ! stalled; }
fill_up() { head -c 24M /dev/zero 2>/dev/null | tr '\0' x >"$T/small/ballast" 2>/dev/null; }

# make_image KIND: without a parent, with one
make_image() {
	rm -f "$T"/small/*
	vhd-util create -n "$T/small/d.vhd" -s 64
	if [ "$1" = child ]; then
		mv "$T/small/d.vhd" "$T/small/p.vhd"
		vhd-util snapshot -n "$T/small/d.vhd" -p "$T/small/p.vhd"
	fi
}

# begin KIND: block 0 is written, the disk is full, and a write to block 20 waits
begin() {
	make_image "$1"
	new_disk "vhd:$T/small/d.vhd"
	io 'write -P 1 0 2M' flush
	fill_up
	qemu-io -f raw -c 'write -P 9 40M 2M' "$uri" >"$T/out" 2>&1 &
	writer=$!
	pids+=("$writer")
	wait_for 20 stalled
}

for kind in plain child; do
	# others are not stopped by it
	begin "$kind"
	io 'write -P 2 64k 64k' flush 'read -P 2 64k 64k' 'read -P 1 0 64k'
	# a snapshot has no room, says so, and leaves nothing
	check_status 28 tap-ctl snapshot -p "$pid" -m "$minor" --name "$T/small/frozen.vhd"
	grep -q "cannot make a child of '$T/small/d.vhd'.*No space left" "$T/.err" || fail "$kind: $(cat "$T/.err")"
	[ ! -e "$T/small/frozen.vhd" ] || fail "$kind: a snapshot that failed left its name"
	# it can be paused and resumed, with the write still waiting
	timeout 10 tap-ctl pause -p "$pid" -m "$minor" || fail "$kind: pause on a full disk: $?"
	[ "$(vhd-util check "$T/small/d.vhd" 2>&1 | tail -1)" = "$T/small/d.vhd is valid" ] ||
		fail "$kind: $(vhd-util check "$T/small/d.vhd" 2>&1)"
	timeout 10 tap-ctl unpause -p "$pid" -m "$minor" || fail "$kind: unpause on a full disk: $?"
	wait_for 20 stalled
	kill -0 $writer || fail "$kind: the guest did not wait: $(cat "$T/out")"
	io 'write -P 3 128k 64k' flush
	# the guest that waits is given up: nothing waits any more, and nothing of its write shows as new
	kill -9 $writer
	wait $writer 2>/dev/null
	wait_for 10 moving
	io flush 'read -P 3 128k 64k'
	timeout 10 tap-ctl close -p "$pid" -m "$minor" || fail "$kind: close on a full disk: $?"
	tap-ctl detach -p "$pid" -m "$minor" || fail "$kind: detach"
	tap-ctl free -m "$minor"
	wait_for 10 gone "$pid"
	[ "$(vhd-util check "$T/small/d.vhd" 2>&1 | tail -1)" = "$T/small/d.vhd is valid" ] ||
		fail "$kind, closed: $(vhd-util check "$T/small/d.vhd" 2>&1)"
	rm "$T/small/ballast"
	new_disk "vhd:$T/small/d.vhd"
	io 'read -P 1 0 64k' 'read -P 2 64k 64k' 'read -P 3 128k 64k' 'write -P 4 40M 2M' flush 'read -P 4 40M 2M'
	end_disk
done

# the end of the server, with a write that waits
begin child
began=$SECONDS
kill -TERM "$pid"
wait_for 15 gone "$pid"
[ $((SECONDS - began)) -lt 15 ] || fail "child: the server took $((SECONDS - began)) s to end"
wait $writer && fail "child: the guest's write was said to be done"
[ "$(vhd-util check "$T/small/d.vhd" 2>&1 | tail -1)" = "$T/small/d.vhd is valid" ] ||
	fail "child, ended: $(vhd-util check "$T/small/d.vhd" 2>&1)"
rm "$T/small/ballast"
new_disk "vhd:$T/small/d.vhd"
io 'read -P 1 0 2M'
end_disk

# a server that is not managed says how it ended
make_image plain
tapdisk --nbd "unix:$T/s" "vhd:$T/small/d.vhd" 2>"$T/err" &
server=$!
pids+=("$server")
uri="nbd+unix:///?socket=$T/s"
wait_for 10 test -S "$T/s"
io 'write -P 1 0 2M' flush
fill_up
qemu-io -f raw -c 'write -P 9 40M 2M' "$uri" >"$T/out" 2>&1 &
writer=$!
pids+=("$writer")
wait_for 20 grep -q stalled "$T/err"
kill -TERM $server
wait $server
status=$?
[ $status = 0 ] || fail "ended with $status: $(cat "$T/err")"
wait $writer
exit 0
