#!/bin/bash
# every fixture: sound images of many creators, damaged and hostile ones; and qemu-img's own
# shellcheck disable=SC1091
. "$(dirname "$0")/../lib/cli.sh"
need python3

dir=$T
[ ! -d /dev/shm ] || dir=$(mktemp -d /dev/shm/vhd-test.XXXXXX)
at_exit "rm -rf '$dir'"
python3 "$root/fixtures/play.py" "$BIN/vhd-util" "$TOOLS/flat" "$dir" || fail "fixtures"

# the maker makes the same bytes each time
for n in 1 2; do
	python3 "$root/fixtures/make.py" vector-child three-deep "$dir/$n" || fail "maker"
done
diff -r "$dir/1" "$dir/2" || fail "the maker is not deterministic"

need qemu-img qemu-io
cd "$dir" || exit 1
# qemu_image NAME SIZE OPTIONS: made and filled by qemu, read by us; then ours must agree
qemu_image() {
	local name=$1 size=$2 options=$3
	qemu-img create -q -f vpc -o "$options" "$name" "$size" >/dev/null || fail "qemu-img create"
	qemu-io -f vpc -c 'write -P 17 0 4k' -c 'write -P 34 600k 300k' "$name" >/dev/null ||
		fail "qemu-io"
	check_out "$name is valid" "$BIN/vhd-util" check -b "$name"
	qemu-img convert -f vpc -O raw "$name" by-qemu.raw || fail "qemu-img convert"
	check_status 0 "$BIN/vhd-util" convert --force "$name" by-us.raw
	cmp by-qemu.raw by-us.raw || fail "$name ($options, $size): other contents than by qemu"
	rm -f by-*.raw
}
for subformat in dynamic fixed; do
	for force in off on; do
		for size in 1M 3M 16M 33M; do
			qemu_image "q-$subformat-$force-$size.vhd" $size \
				"subformat=$subformat,force_size=$force"
		done
	done
done
# large ones: the size only, which qemu takes from the geometry or from the footer
for size in 127G 200G 2040G; do
	qemu-img create -q -f vpc -o subformat=dynamic large.vhd $size >/dev/null || fail "qemu-img create"
	check_out "large.vhd is valid" "$BIN/vhd-util" check -b large.vhd
	want=$(qemu-img info -f vpc --output=json large.vhd | sed -n 's/.*"virtual-size": \([0-9]*\).*/\1/p')
	"$BIN/vhd-util" info --json large.vhd | grep -Eq "\"virtual_size\": ?$want\b" ||
		fail "$size: qemu's size is $want; $("$BIN/vhd-util" info --json large.vhd)"
done
# what doc/format.md says of qemu's images; none of them is a disk of another size to us
# qemu_footer OPTIONS SIZE FILE-BYTES DISK-BYTES GEOMETRY CREATOR
qemu_footer() {
	local got
	qemu-img create -q -f vpc -o "$1" e.vhd "$2" >/dev/null || fail "qemu-img create"
	got="$(stat -c %s e.vhd) $(footer_hex 48 8) $(footer_hex 56 4) $(footer_hex 28 4)"
	[ "$got" = "$3 $(printf %016x "$4") $5 $6" ] || fail "qemu ($1, $2) writes $got"
	"$BIN/vhd-util" info --json e.vhd | grep -Eq "\"virtual_size\": ?$4\b" || fail "$1, $2: not $4"
	check_out "e.vhd is valid" "$BIN/vhd-util" check e.vhd
}
footer_hex() { tail -c 512 e.vhd | od -An -v -tx1 -j "$1" -N "$2" | tr -d ' \n'; }
qemu_footer subformat=fixed,force_size=on 3M 3146240 $((3 << 20)) ffff10ff 71656d32
qemu_footer subformat=fixed 3M 3168768 3168256 005b0411 71656d75
qemu_footer subformat=dynamic 16M 2560 16781312 01e20411 71656d75
qemu_footer subformat=dynamic,force_size=on 16M 2560 $((16 << 20)) ffff10ff 71656d32
# the header of an empty disk of 16 MiB is the same whoever writes it
"$BIN/vhd-util" create --force -n ours.vhd --size 16M || fail "create"
cmp <(head -c 1536 e.vhd | tail -c 1024) <(head -c 1536 ours.vhd | tail -c 1024) ||
	fail "qemu's header is another than ours"

# and the other way round: what we make, qemu and 7-Zip read alike
need 7zz
for options in "--size 16M" "--size 17M --block-size 64K" "--size 3M --fixed" "--size 5M --block-size 4K"; do
	# shellcheck disable=SC2086
	check_status 0 "$BIN/vhd-util" create --force -n ours.vhd $options
	head -c 70000 /dev/urandom >some
	check_status 0 "$BIN/vhd-util" write ours.vhd --offset 1234567 <some
	check_status 0 "$BIN/vhd-util" convert --force ours.vhd ours.raw
	[ "$(dd if=ours.raw bs=65536 iflag=skip_bytes,count_bytes skip=1234567 count=70000 status=none | sha256sum)" = \
		"$(sha256sum <some)" ] || fail "what was written is not there"
	qemu-img convert -f vpc -O raw ours.vhd by-qemu.raw || fail "qemu-img refuses ours ($options)"
	cmp ours.raw by-qemu.raw || fail "qemu reads ours otherwise ($options)"
	7zz x -tvhd -so ours.vhd >by-7z.raw 2>/dev/null || fail "7-Zip refuses ours ($options)"
	cmp ours.raw by-7z.raw || fail "7-Zip reads ours otherwise ($options)"
done
