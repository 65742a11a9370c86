#!/bin/bash
# query: the line of each question, their order, what needs parents
. "$(dirname "$0")/../lib/cli.sh"
. "$(dirname "$0")/vectors.inc"
U=$BIN/vhd-util
cd "$T" || exit 1
make_v2 v2.vhd
make_v3 v3.vhd
make_xs xs.vhd

# ask EXPECTED ARGS...
ask() {
	local want got
	want=$(printf '%b' "$1")
	shift
	got=$("$U" query "$@") || fail "query $*: status $?"
	[ "$got" = "$want" ] || fail "query $*: '$got' instead of '$want'"
}

ask 16 -n v2.vhd -v
ask 2100224 -n v2.vhd -s
ask 'v2.vhd has no parent' -n v2.vhd -p
ask './v2.vhd has no parent' -n ./v2.vhd -p
ask 'hidden: 0' -n v2.vhd -f
ask 'chain depth: 1' -n v2.vhd -d
ask 1 -n v2.vhd -a
ask 16 -n v2.vhd -S
ask 'marker: 0' -n xs.vhd -m
ask 3 -n xs.vhd -a
ask 6304256 -n xs.vhd -s
check_status 95 "$U" query -n v2.vhd -m
check_status 22 "$U" query -n v2.vhd

here=$(pwd -P)
ask "$here/v2.vhd" -n v3.vhd -p
ask 'chain depth: 2' -n v3.vhd -d
ask './v2.vhd' -n v3.vhd -p -u
(cd / && [ "$("$U" query -n "$here/v3.vhd" -p)" = "$here/v2.vhd" ]) || fail "parent from /"

# the order is fixed
all="16\n2101760\n$here/v2.vhd\nhidden: 0\nchain depth: 2\n1\n16"
ask "$all" -n v3.vhd -v -s -p -f -d -a -S
ask "$all" -S -a -d -f -p -s -v -n v3.vhd
ask "$all" v3.vhd -Sadfpsv
ask "$all" v3.vhd --max-size --allocated --depth --hidden --parent --used-size --virtual-size

# the file's length is not the used size
truncate -s 2100224 longer.vhd && cp v2.vhd longer.vhd
put longer.vhd 4194304 00
dd if=v2.vhd of=longer.vhd bs=512 count=1 seek=8192 conv=notrunc status=none
truncate -s $((8193 * 512)) longer.vhd
ask 2100224 longer.vhd -s

# without the parent: all but -p and -d
mv v2.vhd away.vhd
ask "16\n2101760\nhidden: 0\n1\n16" -n v3.vhd -v -s -f -a -S
ask './v2.vhd' -n v3.vhd -p -u
check_status 2 "$U" query -n v3.vhd -p
check_status 2 "$U" query -n v3.vhd -d
out=$("$U" query -n v3.vhd -v -p 2>/dev/null)
[ "$out" = 16 ] || fail "a question without an answer kept others from theirs: $out"

# another image under the parent's name
cp xs.vhd v2.vhd
check_status 117 "$U" query -n v3.vhd -p
mv away.vhd v2.vhd

# --parent-root and VHD_PARENT_ROOT: once given, nothing outside them and the image's directory
mkdir -p sub other
make_v3 sub/v3.vhd
make_v2 sub/v2.vhd
sub=$here/sub
[ "$("$U" query -p sub/v3.vhd --parent-root other 2>/dev/null)" = "$sub/v2.vhd" ] ||
	fail "a root keeps the image's own directory out"

# both footers: --backup-footer, a damaged one is a warning
cp v2.vhd hurt.vhd
put hurt.vhd 0x200a40 00000000
"$U" query -v hurt.vhd >out 2>err || fail "one footer is enough: $(cat err)"
[ "$(cat out)" = 16 ] || fail "with one footer: $(cat out)"
[ "$(wc -l <err)" = 1 ] && grep -q warning err || fail "no single warning: $(cat err)"
ask 16 --backup-footer -v v2.vhd
put hurt.vhd 0x40 00000000
check_status 117 "$U" query -v hurt.vhd

# what is no image
: >empty && mkfifo fifo
head -c 4096 /dev/zero >zeros
check_status 117 "$U" query -v empty
check_status 117 "$U" query -v zeros
timeout 5 "$U" query -v fifo 2>/dev/null
[ $? = 124 ] && fail "a FIFO blocks"
"$U" query -v . 2>/dev/null && fail "a directory is an image"

need python3
"$U" query --json -v -s -p v3.vhd | python3 -c '
import json, sys
o = json.load(sys.stdin)
assert o["schema"] == "query/1" and o["virtual_size"] == 16 << 20, o
assert o["used_size"] == 2101760 and o["parent"].endswith("/v2.vhd"), o' || fail "query --json"
