#!/usr/bin/env bash
# outside - what others do to a chain while it is served: a merge of an inner image into its
# parent, that makes the parent longer; two disks with parents in common; hostile parents
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/ctl.inc"
need qemu-io fio
dir=$(mktemp -d /dev/shm/vhd-test.XXXXXX) || skip "no /dev/shm"
at_exit "rm -rf '$dir'"
fill() { head -c "$2" /dev/zero | tr '\0' "$1"; }

vhd-util create -n "$dir/base.vhd" -s 128
fill a 1M | vhd-util write "$dir/base.vhd" --offset 0
vhd-util snapshot -n "$dir/mid.vhd" -p "$dir/base.vhd"
for ((k = 0; k < 60; k++)); do
	fill b 300000 | vhd-util write "$dir/mid.vhd" --offset $((k * 2097152 + 512 * (k + 1)))
done
vhd-util snapshot -n "$dir/leaf.vhd" -p "$dir/mid.vhd"
vhd-util snapshot -n "$dir/twin.vhd" -p "$dir/mid.vhd"
vhd-util convert "$dir/leaf.vhd" before.raw || fail "convert"

# two disks of one process share mid and base
cp "$dir/leaf.vhd" "$dir/keep.vhd"
tapdisk --name one "vhd:$dir/leaf.vhd" --name two "vhd:$dir/twin.vhd" --nbd "unix:$T/s" \
	--cache 1M --run-dir "$T/run" 2>"$T/log" &
server=$!
pids+=("$server")
wait_for 10 test -S "$T/s"

one="nbd+unix:///one?socket=$T/s" two="nbd+unix:///two?socket=$T/s"
timeout 60 nbdcopy "$one" one.raw & a=$!
timeout 60 nbdcopy "$two" two.raw || fail "nbdcopy two"
wait $a || fail "nbdcopy one"
cmp before.raw one.raw || fail "one differs"
cmp before.raw two.raw || fail "two differs"
kill $server
wait $server || fail "SIGTERM: status $?"
[ -e "$T/s" ] && fail "the socket is left"
rm "$dir/twin.vhd"

# mid goes into base while the leaf is served and verified
new_disk "vhd:$dir/leaf.vhd"
timeout 100 fio --name=v --ioengine=nbd --uri="$uri" --rw=randrw --bs=4k --iodepth=8 --offset=100m --size=16m \
	--io_size=64m --verify=crc32c --verify_backlog=512 --verify_state_save=0 --verify_fatal=1 --output=fio.log &
load=$!
vhd-util coalesce -n "$dir/mid.vhd" >/dev/null || fail "coalesce below a running leaf"
wait $load || fail "fio: $(tail -3 fio.log)"
timeout 60 nbdcopy "$uri" after.raw || fail "nbdcopy after"
cmp -n $((100 << 20)) before.raw after.raw || fail "the disk changed by the merge"
end_disk
vhd-util compare "$dir/leaf.vhd" after.raw || fail "on disk it differs"

# a parent outside the leaf's directory is not opened
mkdir "$dir/sub"
vhd-util snapshot -n "$dir/sub/child.vhd" -p "$dir/base.vhd"
check_status 13 timeout 20 tapdisk "vhd:$dir/sub/child.vhd" --nbd "unix:$T/s" --run-dir "$T/run"
check_err 'parent'
tapdisk "vhd:$dir/sub/child.vhd" --nbd "unix:$T/s" --run-dir "$T/run" --parent-root "$dir" 2>"$T/log" &
server=$!
pids+=("$server")
wait_for 10 test -S "$T/s"
kill $server
wait $server || fail "SIGTERM: status $?"

# a leaf that is hidden, damaged, no image, or used
vhd-util set -n "$dir/sub/child.vhd" -f hidden -v 1
check_status 16 timeout 20 tapdisk "vhd:$dir/sub/child.vhd" --nbd "unix:$T/s" --run-dir "$T/run" --parent-root "$dir"
head -c 100000 /dev/urandom >junk
check_status 117 timeout 20 tapdisk vhd:junk --nbd "unix:$T/s" --run-dir "$T/run"
check_status 2 timeout 20 tapdisk vhd:none.vhd --nbd "unix:$T/s" --run-dir "$T/run"
check_status 22 timeout 20 tapdisk vhd:junk
check_status 22 timeout 20 tapdisk bad:junk --nbd "unix:$T/s" --run-dir "$T/run"
[ -e "$T/s" ] && fail "a socket is left by a server that did not start"
exit 0
