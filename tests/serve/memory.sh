#!/usr/bin/env bash
# memory - of a disk whose blocks are written far apart, through many snapshots: the metadata of all
# layers together keeps to --cache
# shellcheck source=tests/serve/nbd.inc
. "$(dirname "$0")/nbd.inc"
need fio
dir=$(mktemp -d /dev/shm/vhd-test.XXXXXX) || skip "no /dev/shm"
at_exit "rm -rf '$dir'"
[ -z "${SAN:-}" ] || exit 0 # sanitizers take memory of their own

vhd-util create -n "$dir/d.vhd" --size 500G
serve s --cache 8M "vhd:$dir/d.vhd"
timeout 100 fio --name=w --ioengine=nbd --uri="nbd+unix:///?socket=$T/s" --rw=randwrite --bs=4k \
	--iodepth=16 --norandommap=1 --rate_iops=20000 --time_based --runtime=90 --output="$T/fio.log" &
fio=$!
for ((i = 1; i <= 30; i++)); do
	sleep 0.1
	tap-ctl snapshot --run-dir "$T/run" -m 0 --name "$dir/n$i.vhd" >"$T/snap" 2>&1 ||
		fail "snapshot $i: $(cat "$T/snap")"
done
kill -INT $fio
wait $fio
kb=$(awk '/^RssAnon/ { print $2 }' "/proc/${server[s]}/status")
# 8 MiB, as much again that the allocator holds, the process, and 30 layers of 256,000 blocks
[ "$kb" -le $((44 << 10)) ] || fail "$kb KiB of memory"
unserve s
exit 0
