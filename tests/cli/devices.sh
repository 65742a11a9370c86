#!/bin/bash
# devices: images, parents, sources and targets on block devices, also through links as logical volumes have
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
[ "$(id -u)" = 0 ] || skip "loop devices need root"
cd "$T" || exit 1
group=/dev/vhd-test.$$
mkdir "$group" 2>/dev/null || skip "/dev cannot be written"
at_exit "rm -rf $group"
export VHD_STATE_DIR=$T/state
# device NAME MIB SECTOR: a loop device of old bytes, and a link to it in the group
device() {
	head -c "$2M" /dev/urandom >"$1.img"
	node=$(losetup -f --show -b "$3" "$1.img" 2>/dev/null) || skip "no loop devices here"
	at_exit "losetup -d $node"
	ln -s "../${node#/dev/}" "$group/$1"
}
random() { head -c "$1" /dev/urandom >piece; }

for sector in 512 4096; do
	device base$sector 40 $sector
	device leaf$sector 48 $sector
	device raw$sector 20 $sector
	base=$group/base$sector leaf=$group/leaf$sector raw=$group/raw$sector

	# a device is taken whatever is on it; the footer is in its last sector
	check_out '' "$U" create -n "$base" -s 20
	check_out '' "$U" create -n "$base" -s 20
	check_out "$base is valid" "$U" check "$base"
	[ "$(tail -c 512 base$sector.img | head -c 8)" = conectix ] || fail "no footer at the end of the device"
	random 3000001
	"$U" write "$base" --offset 1000001 <piece || fail "write"
	"$U" read "$base" -R 1000001 -c 3000001 | cmp - piece || fail "read"
	check_out "$base is valid" "$U" check -b "$base"
	used=$("$U" query -s "$base")
	[ "$used" -gt 3000000 ] && [ "$used" -lt 10000000 ] || fail "query -s: $used"
	check_out '' "$U" set -n "$base" -f hidden -v 1
	check_out '' "$U" set -n "$base" -f hidden -v 0

	# a child on a device, found by the volume's name; merged without a root, for both are in one group
	check_out '' "$U" snapshot -n "$leaf" -p "$base"
	check_out "$base" "$U" query -p "$leaf"
	random 70001
	"$U" write "$leaf" --offset 900000 <piece || fail "write to the child"
	"$U" convert "$leaf" want.raw --force || fail "convert"
	check_out "$leaf is valid" "$U" check -p -b -t "$leaf"
	check_status 0 "$U" coalesce "$leaf"
	grep -qx 'Coalesced [0-9]* sectors' .out || fail "coalesce: $(cat .out)"
	check_status 0 "$U" compare "$base" want.raw
	check_out "$base is valid" "$U" check -b "$base"

	# a footer lost and restored, as scripts do it; what was there is kept in the state directory
	dd if=/dev/zero of=base$sector.img bs=512 count=1 conv=notrunc status=none
	cp base$sector.img lost.img
	check_status 117 "$U" check "$base"
	check_status 0 "$U" repair -n "$base"
	check_out "$base is valid" "$U" check -b "$base"
	check_status 0 "$U" compare "$base" want.raw
	kept=$(ls state/*.repair-*) || fail "nothing is kept: $(ls state)"
	check_status 0 "$U" repair -n "$base" --undo "$kept"
	cmp base$sector.img lost.img || fail "not as it was"
	check_status 0 "$U" repair -n "$base" --json
	python3 -c 'import json; print(json.load(open(".out"))["backup"])' | grep -q "state/[0-9a-f]*.repair-" || fail "JSON: $(cat .out)"
	rm -r state
	cp lost.img base$sector.img && : >state
	check_status 20 "$U" repair -n "$base"
	check_err '--backup names another place'
	cmp base$sector.img lost.img || fail "changed, and nothing kept"
	check_status 0 "$U" repair -n "$base" --backup kept
	rm state kept

	# a raw volume as parent
	cp raw$sector.img raw.before
	check_out '' "$U" snapshot -n "$leaf" -p "$raw" -m
	check_out "$(printf '%s\nchain depth: 2' "$raw")" "$U" query -p -d "$leaf"
	random 5000
	"$U" write "$leaf" --offset 12345 <piece || fail "write"
	check_status 0 "$U" coalesce "$leaf"
	cp raw.before model && dd if=piece of=model bs=1M conv=notrunc oflag=seek_bytes seek=12345 status=none
	cmp "$raw" model || fail "coalesced into a raw volume"

	# both ends of conversions
	check_status 0 "$U" convert "$base" flat.raw --force
	cmp flat.raw want.raw || fail "device to file"
	for to in dynamic fixed raw; do
		check_status 0 "$U" convert flat.raw "$leaf" --to $to
		cmp -n 20971520 <("$U" convert "$leaf" - --to raw) flat.raw || fail "$to to a pipe"
		# a raw disk is as long as the device, and nothing of the image before is left
		check_status "$([ $to = raw ] && echo 1 || echo 0)" "$U" compare "$leaf" flat.raw
		"$U" convert flat.raw "$leaf" --to dynamic && "$U" convert - "$leaf" --to $to <flat.raw || fail "pipe"
		cmp -n 20971520 <("$U" convert "$leaf" - --to raw) flat.raw || fail "from a pipe, $to"
	done
	check_status 0 "$U" convert "$base" "$leaf" --to dynamic
	check_status 0 "$U" compare "$leaf" "$base"
	check_status 0 "$U" convert "$leaf" - --to raw --gzip
	gzip -dc .out | cmp - flat.raw || fail "device to gzip"

	# too small: 28, and what was there is still there
	before=$(sha256sum <base$sector.img)
	for args in "create -n $base -s 40 -r" "create -n $base --size 41943040 -r" "convert want.raw $raw --to fixed"; do
		# shellcheck disable=SC2086
		check_status 28 "$U" $args
	done
	[ "$(sha256sum <base$sector.img)" = "$before" ] || fail "a refusal changed the device"
	random $((21 << 20))
	check_status 28 "$U" convert piece "$raw" --from raw --to raw
	check_out '' "$U" create -n "$leaf" -s 100 # larger than its storage: allowed, until it is full
	random $((60 << 20))
	check_status 28 "$U" write "$leaf" --offset 0 <piece
	check_status 0 "$U" check -b "$leaf"
	"$U" read "$leaf" -R 0 -c 40M | cmp -n $((40 << 20)) - piece || fail "what had room on a full device"
done

# directly in /dev only what is said may be written: an image must not choose among all devices
check_out '' "$U" create -n "$base" -s 20
check_out '' "$U" snapshot -n "$(readlink -f "$leaf")" -p "$(readlink -f "$base")"
check_status 13 "$U" coalesce "$(readlink -f "$leaf")"
check_status 0 "$U" coalesce "$(readlink -f "$leaf")" --parent-root /dev
exit 0
