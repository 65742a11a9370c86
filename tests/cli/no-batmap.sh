#!/bin/bash
# no-batmap: images that say XenServer made them, and whose batmap other programs wrote over or left out
. "$(dirname "$0")/../lib/cli.sh"
need qemu-io qemu-img
U=$BIN/vhd-util
cd "$T" || exit 1
says='the creator of the image writes a batmap behind the table, but its data begins there'
foreign() { # FILE RAW: it reads as the raw one does, is repaired, and can be undone
	local undo
	check_status 0 "$U" compare "$1" "$2"
	check_status 117 "$U" check -b "$1"
	[ "$(grep -c . .out)" = 1 ] && grep -q "$says" .out || fail "$1: $(cat .out)"
	cp "$1" before
	check_status 0 "$U" repair --dry-run "$1"
	cmp -s "$1" before || fail "a dry run wrote"
	check_status 0 "$U" repair "$1"
	check_out "$1 is valid" "$U" check -b "$1"
	check_status 0 "$U" compare "$1" "$2"
	undo=$(echo "$1".repair-*)
	cp "$1" mended
	check_status 0 "$U" repair "$1" --undo "$undo"
	cmp -s "$1" before || fail "undo"
	rm "$undo"
	# a power cut between the two footers: either is right, and the work is finished
	dd if=mended of="$1" bs=512 skip=$(($(stat -c %s mended) / 512 - 1)) seek=$(($(stat -c %s mended) / 512 - 1)) \
		conv=notrunc status=none
	check_status 0 "$U" compare "$1" "$2"
	check_status 0 "$U" repair "$1"
	check_out "$1 is valid" "$U" check -b "$1"
	rm "$1".repair-*
	# and it can be worked with before that, too
	for image in before mended; do
		head -c 300000 "$2" | "$U" write "$image" --offset 9M || fail "write"
		check_out "$image is valid" "$U" check -b "$image" # who writes mends it
		head -c 300000 "$2" >data
		cp "$2" now.raw
		dd if=data of=now.raw bs=1M seek=9 conv=notrunc status=none
		check_status 0 "$U" compare "$image" now.raw
		check_status 0 "$U" resize -n "$image" -s 5000 # the table grows: blocks move
		check_status 0 "$U" resize -n "$image" -s 16
		check_status 0 "$U" compare "$image" now.raw
		check_status 0 "$U" snapshot -n over.vhd -p "$image"
		"$U" write over.vhd --offset 1M <data || fail "write"
		dd if=data of=now.raw bs=1M seek=1 conv=notrunc status=none
		check_status 0 "$U" coalesce -n over.vhd
		check_status 0 "$U" compare "$image" now.raw
		check_status 0 "$U" compact "$image"
		check_status 0 "$U" compare "$image" now.raw
		rm over.vhd
	done
}

# QEMU puts its first block where the batmap was
check_status 0 "$U" create -n q.vhd -s 16
qemu-io -f vpc -c 'write -P 1 4k 3M' -c 'write -P 2 12M 70k' q.vhd >/dev/null || fail "qemu-io"
check_status 0 qemu-img convert -f vpc -O raw q.vhd q.raw # the old end footer shows in what it did not write
foreign q.vhd q.raw
check_status 0 qemu-img compare -f vpc -F raw q.vhd q.raw

# Xen Orchestra flattens chains so: the creator and the locators of the leaf, no batmap, no parent
leaf() { # FILE WITH_BLOCKS
	python3 - "$@" <<'END' || fail "make"
import struct, sys
def footer(entry=0):
    f = bytearray(512)
    f[0:28] = b"conectix" + struct.pack(">IIQI", 2, 0x10000, 512, 0x2d733670)
    f[28:40] = b"tap\0" + struct.pack(">II", 0x10003, 0)
    f[40:64] = struct.pack(">QQHBBI", 16 << 20, 16 << 20, 481, 4, 17, 3)
    f[68:84] = bytes(range(16))
    f[64:68] = struct.pack(">I", ~sum(f) & 0xffffffff)
    return bytes(f)
def header():
    h = bytearray(1024)
    h[0:32] = b"cxsparse" + struct.pack(">QQII", 2**64 - 1, 1536, 0x10000, 8)
    h[32:36] = struct.pack(">I", 2 << 20)
    for i, code in enumerate((b"MacX", b"W2ku", b"W2ru")):  # their texts were there once
        h[576 + 24 * i:576 + 24 * i + 24] = code + struct.pack(">IIIQ", 512, 20, 0, 4096 + 512 * i)
    h[36:40] = struct.pack(">I", ~sum(h) & 0xffffffff)
    return bytes(h)
blocks = {0: b"a", 3: b"d"} if sys.argv[2] == "1" else {}
table, place = [0xffffffff] * 128, 4
for n in sorted(blocks):
    table[n] = place
    place += 4097
with open(sys.argv[1], "wb") as f:
    f.write(footer() + header() + struct.pack(">128I", *table))
    for n in sorted(blocks):
        f.write(b"\xff" * 512 + blocks[n] * (2 << 20))
    f.write(footer())
with open(sys.argv[1].replace(".vhd", ".raw"), "wb") as f:
    f.truncate(16 << 20)
    for n in blocks:
        f.seek(n * (2 << 20))
        f.write(blocks[n] * (2 << 20))
END
}
leaf x.vhd 1
foreign x.vhd x.raw
leaf empty.vhd 0
foreign empty.vhd empty.raw

# a real batmap whose header is damaged is not mistaken for that: it is made anew
check_status 0 "$U" create -n d.vhd -s 16
"$U" write d.vhd --offset 0 <q.raw || fail "write"
printf x | dd of=d.vhd bs=1 seek=2050 conv=notrunc status=none
check_status 117 "$U" check d.vhd
grep -q 'no batmap header' .out || fail "$(cat .out)"
check_status 0 "$U" compare d.vhd q.raw
check_status 0 "$U" repair d.vhd
[ "$(dd if=d.vhd bs=1 skip=2048 count=8 status=none)" = tdbatmap ] || fail "the batmap is not there again"
