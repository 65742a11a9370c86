#!/usr/bin/env bash
# snapshots - 200 and more live snapshots, and pauses, under fio that verifies all it wrote;
# every frozen node is readable, the chain says what fio wrote
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/ctl.inc"
need fio qemu-io
dir=$(mktemp -d /dev/shm/vhd-test.XXXXXX) || skip "no /dev/shm"
at_exit "rm -rf '$dir'"
rounds=${ROUNDS:-205}

vhd-util create -n "$dir/d.vhd" -s 64
new_disk "vhd:$dir/d.vhd"
timeout 200 fio --name=v --ioengine=nbd --uri="$uri" --rw=randwrite --bs=4k --iodepth=16 --size=32m \
	--io_size=100g --verify=crc32c --verify_backlog=2048 --do_verify=1 --time_based --runtime=120 \
	--verify_state_save=0 --verify_fatal=1 --output="$T/fio.log" &
fio=$!
for ((i = 1; i <= rounds; i++)); do
	kill -0 $fio 2>/dev/null || fail "fio has ended: $(tail -5 "$T/fio.log")"
	tap-ctl snapshot -p "$pid" -m "$minor" --name "$dir/n$i.vhd" >"$T/snap" 2>&1 ||
		fail "snapshot $i: $(cat "$T/snap")"
	if ((i % 10 == 0)); then
		tap-ctl pause -p "$pid" -m "$minor" || fail "pause $i"
		tap-ctl unpause -p "$pid" -m "$minor" || fail "unpause $i"
	fi
done
kill -INT $fio
wait $fio
grep -qE 'verify.*(fail|bad)|err= *[1-9]' "$T/fio.log" && fail "fio: $(grep -E 'verify|err=' "$T/fio.log" | head -3)"
tap-ctl stats -p "$pid" -m "$minor" | grep -q '"reqs_outstanding": 0' || fail "requests are left"
timeout 60 nbdcopy "$uri" "$T/live.raw" || fail "nbdcopy"
end_disk
[ "$(vhd-util query -n "$dir/d.vhd" -d)" = "chain depth: $((rounds + 1))" ] || fail "depth"
vhd-util compare "$dir/d.vhd" "$T/live.raw" || fail "the chain differs from the live disk"
vhd-util check "$dir/d.vhd" --parents >"$T/check" || fail "check: $(head -3 "$T/check")"
# the same after merging all of it into one image
vhd-util coalesce -n "$dir/d.vhd" --ancestor "$dir/n1.vhd" >/dev/null || fail "coalesce"
vhd-util compare "$dir/n1.vhd" "$T/live.raw" || fail "merged, it differs"
exit 0
