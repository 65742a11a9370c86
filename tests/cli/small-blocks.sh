#!/bin/bash
# small blocks: the room of the next batmap is larger than a block, and no block is put there
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
cd "$T" || exit 1

# piece OFFSET BYTES: random bytes into disk.vhd and into the model of it
piece() {
	head -c "$2" /dev/urandom >piece
	"$U" write disk.vhd --offset "$1" <piece || fail "write at $1"
	dd if=piece of=model.raw bs=1M conv=notrunc oflag=seek_bytes seek="$1" status=none
	[ "$("$U" check disk.vhd -b)" = "disk.vhd is valid" ] || fail "after $1: $("$U" check disk.vhd -b)"
}
while read -r size block; do
	"$U" create -n disk.vhd --size "$size" --block-size "$block" --force || fail "create"
	check_out 'disk.vhd is valid' "$U" check disk.vhd # and nothing of it is leaked
	rm -f model.raw && truncate -s "$size" model.raw
	for at in 3000000 4000001 90000000 3020000 0; do piece $at 50000; done
	check_status 0 "$U" compare disk.vhd model.raw
	check_status 0 "$U" snapshot -n child.vhd -p disk.vhd --force
	for at in 2990000 5000000 5040001; do
		head -c 60000 /dev/urandom >piece
		"$U" write child.vhd --offset $at <piece || fail "write to the child"
		dd if=piece of=model.raw bs=1M conv=notrunc oflag=seek_bytes seek=$at status=none
		[ "$("$U" check child.vhd -p -b)" = "child.vhd is valid" ] || fail "$("$U" check child.vhd -p -b)"
	done
	check_status 0 "$U" compare child.vhd model.raw
	check_status 0 "$U" coalesce child.vhd
	check_status 0 "$U" compare disk.vhd model.raw
	check_status 0 "$U" convert disk.vhd copy.vhd --block-size "$block" --force
	check_status 0 "$U" compare copy.vhd model.raw
	[ "$("$U" check copy.vhd -b)" = "copy.vhd is valid" ] || fail "$("$U" check copy.vhd -b)"
	"$U" write copy.vhd --offset 70000000 <piece || fail "write to a converted image"
	[ "$("$U" check copy.vhd -b)" = "copy.vhd is valid" ] || fail "$("$U" check copy.vhd -b)"
done <<'EOF'
1G 4K
4G 8K
20G 32K
EOF
exit 0
