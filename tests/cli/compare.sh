#!/bin/bash
# compare: 0 or 1 and the first differing byte; across formats, chains, sizes; holes are not read
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
cd "$T" || exit 1

# differ OFFSET A B: status 1, both ways round, and the byte
differ() {
	check_status 1 "$U" compare "$2" "$3"
	grep -qx "'.*$2' and '.*$3' differ first at byte $1" .out || fail "$2, $3: $(cat .out)"
	check_status 1 "$U" compare "$3" "$2"
	check_status 1 "$U" compare --json "$2" "$3"
	grep -q '"same": false' .out && grep -q "\"first_difference\": $1\$" .out || fail "$(cat .out)"
}
same() {
	check_out '' "$U" compare "$1" "$2"
	check_out '' "$U" compare "$2" "$1"
	check_status 0 "$U" compare --json "$1" "$2"
	grep -q '"same": true' .out && grep -q '"first_difference": null' .out || fail "$(cat .out)"
}

# a disk with data before, between and behind holes, down to single bytes at their edges
truncate -s 8M disk.raw
for at in 0 4095 4096 1048575 1048576 3000000 8388607; do
	printf 'x' | dd of=disk.raw bs=1 seek=$at conv=notrunc status=none
done
"$U" convert disk.raw dynamic.vhd && "$U" convert disk.raw fixed.vhd --to fixed &&
	"$U" convert disk.raw small.vhd --block-size 4K && "$U" create -n base.vhd -s 8 &&
	"$U" snapshot -n leaf.vhd -p base.vhd -e && "$U" write leaf.vhd --offset 0 <disk.raw || fail "make"
cp --sparse=never disk.raw full.raw
for a in disk.raw full.raw dynamic.vhd fixed.vhd small.vhd leaf.vhd; do
	for b in disk.raw full.raw dynamic.vhd fixed.vhd small.vhd leaf.vhd; do same $a $b; done
done
for at in 0 1 4095 4097 8191 65536 1048574 1048577 2999999 8388606 8388607; do
	cp --sparse=always disk.raw other.raw
	printf 'y' | dd of=other.raw bs=1 seek=$at conv=notrunc status=none
	for a in disk.raw full.raw dynamic.vhd fixed.vhd leaf.vhd; do differ $at $a other.raw; done
done

# different lengths differ at the end of the shorter, zeros or not
cp --sparse=always disk.raw long.raw && truncate -s 9M long.raw
differ 8388608 dynamic.vhd long.raw
head -c 8388600 disk.raw >short.raw
differ 8388607 short.raw disk.raw # a raw disk ends with a whole sector
head -c 8388096 disk.raw >short.raw
differ 8388096 short.raw fixed.vhd

# read as what one says it is
check_status 1 "$U" compare dynamic.vhd dynamic.vhd --from-b raw
check_status 0 "$U" compare dynamic.vhd dynamic.vhd --from-a raw --from-b raw
check_status 117 "$U" compare disk.raw dynamic.vhd --from-a vhd
check_status 22 "$U" compare disk.raw dynamic.vhd --from-a qcow2
check_status 22 "$U" compare disk.raw
check_status 22 "$U" compare disk.raw disk.raw disk.raw
check_status 2 "$U" compare disk.raw no.raw
mv base.vhd away.vhd
check_status 2 "$U" compare disk.raw leaf.vhd
mv away.vhd base.vhd

# a terabyte of nothing takes no time
truncate -s 1T nothing.raw && "$U" create -n nothing.vhd --size 1T || skip "no such large files here"
check_status 0 timeout 20 "$U" compare nothing.raw nothing.vhd
printf 'x' | dd of=nothing.raw bs=1 seek=$((1 << 39)) conv=notrunc status=none
differ $((1 << 39)) nothing.raw nothing.vhd
exit 0
