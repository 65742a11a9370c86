#!/bin/bash
# read: every mode against images known byte by byte
. "$(dirname "$0")/../lib/cli.sh"
. "$(dirname "$0")/vectors.inc"
U=$BIN/vhd-util
cd "$T" || exit 1
make_v2 v2.vhd
make_v3 v3.vhd
make_xs xs.vhd

# text EXPECTED ARGS...
text() {
	local want got
	want=$(printf '%b' "$1")
	shift
	got=$("$U" read "$@") || fail "read $*: status $?"
	[ "$got" = "$want" ] || fail "read $*: '$got' instead of '$want'"
}
# bytes FILE OFFSET LENGTH ARGS...: the output is this part of FILE
bytes() {
	tail -c +$(($2 + 1)) "$1" | head -c "$3" >want
	shift 3
	"$U" read "$@" >got || fail "read $*: status $?"
	cmp want got || fail "read $*: other bytes"
}

text 'block: 0: offset: 2048' -n v2.vhd -b 0
text 'block: 1: offset: not allocated' -n v2.vhd -b 1
text 'block: 0: offset: 2048\nblock: 1: offset: not allocated' -n v2.vhd -b 0 -c 2
text 'block: 0x0: offset: 0x800' -n v2.vhd -b 0 -x
text 'block 0: sec: 1: 1' -n v2.vhd -i 1
text 'block 0: sec: 2: 0' -n v2.vhd -i 2
text 'block 1: sec: 0: 0' -n v2.vhd -i 4096
text 'logical 1: block 0, sector 1, offset 3072' -n v2.vhd -t 1
text 'logical 4097: block 1, sector 1, offset not allocated' -n v2.vhd -t 4097
text '0 2' -n v2.vhd -e 0
text '1 1' -n v2.vhd -e 1
text '1 1' -n v3.vhd -e 0
text '0 8193' -n xs.vhd -e 0
text '' -n v2.vhd -e 2 -c 100
text 'batmap for block 1: 1\nbatmap for block 2: 0' -n xs.vhd -j 1 -c 2

bytes v2.vhd 0x800 512 -n v2.vhd -m 0
bytes v2.vhd 0xa00 2097152 -n v2.vhd -d 0
bytes xs.vhd 0xa00 512 -n xs.vhd -a
[ "$("$U" read -n v2.vhd -B | od -An -tx1)" = " 80" ] || fail "-B of v2"
[ "$("$U" read -n xs.vhd -B | od -An -tx1)" = " e0" ] || fail "-B of xs"
check_status 61 "$U" read -n v2.vhd -m 1
check_status 61 "$U" read -n v2.vhd -d 1
check_status 95 "$U" read -n v2.vhd -a
check_status 95 "$U" read -n v2.vhd -j 0
for mode in '-b 8' '-m 8' '-d 8' '-i 32768' '-t 32768' '-e 32768' '-r 32768' '-R 16777216' \
	'-r 32767 -c 2' '-b 7 -c 2' '-r 0xffffffffffffffff' '-b 1 -c 0xffffffffffffffff'; do
	# shellcheck disable=SC2086
	check_status 34 "$U" read -n v2.vhd $mode
done
check_status 22 "$U" read -n v2.vhd
check_status 22 "$U" read -n v2.vhd -B -a

# the disk, through the chain: sector 0 of the parent, 1 of the child, else zeros
head -c 512 /dev/zero | tr '\0' '\021' >disk
head -c 512 /dev/zero | tr '\0' '\063' >>disk
truncate -s 16M disk
bytes disk 0 512 -n v3.vhd -r 0
bytes disk 512 1024 -n v3.vhd -r 1 -c 2
bytes disk 511 3 -n v3.vhd -R 511 -c 3
bytes disk 0 16777216 -n v3.vhd -R 0 -c 16M
"$U" read -n v3.vhd -r 0 -c 32768 | sha256sum |
	grep -q bb641c33a64b7dd84fdd1d78fb5379bcf80e2c2da771757d3259aafb28beac52 || fail "v3's disk"
"$U" read -n xs.vhd -R 0 -c 16M --debug | sha256sum |
	grep -q ca89aea1a13a06bcfac36d7750896508953d61e72bf4df14160a52d8c83142d6 || fail "xs's disk"
"$U" read -n v3.vhd -R 0x1ff -c 2 -x >got || fail "hex dump"
printf '00000001ff  11 33%44s |.3|\n' '' >want
cmp want got || fail "hex dump: $(cat got)"

# what needs no parent works without it
mv v2.vhd away.vhd
check_status 0 "$U" read -n v3.vhd -p
check_status 0 "$U" read -n v3.vhd -b 0
check_status 2 "$U" read -n v3.vhd -r 0
mv away.vhd v2.vhd
