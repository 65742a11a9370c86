#!/bin/bash
# read: every mode with -c and -x, at the first and the last place, on every type of image
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
cd "$T" || exit 1

# 20 MiB in 2 MiB blocks: 0 and 9 are allocated, room for 50
"$U" create -n d.vhd -s 20 -S 100 || fail "create"
head -c 2097152 /dev/urandom >first
head -c 5000 /dev/urandom >last
"$U" write d.vhd --offset 0 <first && "$U" write d.vhd --offset $((20971520 - 5000)) <last || fail "write"
"$U" create -n f.vhd -s 4 -r && "$U" write f.vhd --offset 0 <first || fail "create -r"
head -c 3000001 /dev/urandom >base.raw
"$U" snapshot -n c.vhd -p base.raw -m && "$U" write c.vhd --offset 512 <last || fail "snapshot -m"

text() { # TEXT ARGS…
	check_out "$(printf '%b' "$1")" "$U" read "${@:2}"
}
bytes() { # FILE OFFSET LENGTH ARGS…: exactly these bytes
	check_status 0 "$U" read "${@:4}"
	cmp .out <(tail -c +$(($2 + 1)) "$1" | head -c "$3") || fail "read ${*:4}"
}
size() { # BYTES ARGS…
	check_status 0 "$U" read "${@:2}"
	[ "$(stat -c %s .out)" = "$1" ] || fail "read ${*:2}: $(stat -c %s .out) bytes instead of $1"
}

# the table: entries by number and as bits, of the disk's size and not of the room
at=$("$U" read d.vhd -b 9 | sed 's/.*: //')
text "block: 8: offset: not allocated\nblock: 9: offset: $at" d.vhd -b 8 -c 2
text "block: 0x9: offset: $(printf '0x%x' "$at")" d.vhd -b 9 -x
size 2 d.vhd -B
[ "$(od -An -tx1 .out)" = " 80 40" ] || fail "-B: $(od -An -tx1 .out)"
size 0 d.vhd -b 0 -c 0
size 512 d.vhd -a
[ "$(head -c 2 .out | od -An -tx1)" = " 80 40" ] || [ "$(head -c 2 .out | od -An -tx1)" = " 80 00" ] ||
	fail "-a: $(od -An -tx1 .out | head -1)"
text 'batmap for block 0x0: 1\nbatmap for block 0x1: 0' d.vhd -j 0 -c 2 -x

# bitmaps: whole, by sector, as runs; a dynamic image's say one for all of a block
bytes d.vhd "$at" 512 d.vhd -m 9
text 'block 9: sec: 4094: 1\nblock 9: sec: 4095: 1' d.vhd -i 40958 -c 2
text 'block 8: sec: 4095: 0\nblock 9: sec: 0: 1' d.vhd -i 36863 -c 2
text 'block 0x9: sec: 0xfff: 1' d.vhd -i 40959 -x
text '0 4096\n36864 4096' d.vhd -e 0
text '0x0 0x1000\n0x9000 0x1000' d.vhd -e 0 -x
text '4095 1' d.vhd -e 4095 -c 1
text '40959 1' d.vhd -e 40959
text '' d.vhd -e 4096 -c 32768
text '1 10' c.vhd -e 0
size 512 c.vhd -m 0 # 7f e0 00…: sectors 1 to 10
[ "$(head -c 3 .out | od -An -tx1)" = " 7f e0 00" ] || fail "-m of a child: $(od -An -tx1 .out | head -1)"

# places: the block's data begins after its bitmap
text "logical 36864: block 9, sector 0, offset $((at + 512))\nlogical 36865: block 9, sector 1, offset $((at + 1024))" \
	d.vhd -t 36864 -c 2
text "logical 0x9fff: block 0x9, sector 0xfff, offset $(printf '0x%x' $((at + 512 * 4096)))" d.vhd -t 40959 -x
bytes d.vhd $((at + 512)) 2097152 d.vhd -d 9
bytes first 0 2097152 d.vhd -d 0

# the disk: sectors and bytes, odd pieces, the very last; through to a raw parent and past its end
bytes last 4488 512 d.vhd -r 40959
bytes last 4999 1 d.vhd -R 20971519
bytes last 0 5000 d.vhd -R $((20971520 - 5000)) -c 5000
bytes first 511 3 d.vhd -R 511 -c 3
bytes first 0 512 f.vhd -r 0
bytes first 1000000 1000000 f.vhd -R 1000000 -c 1000000
bytes base.raw 5632 4096 c.vhd -r 11 -c 8
bytes last 0 5000 c.vhd -R 512 -c 5000
check_status 0 "$U" read c.vhd -r 5859 # of the parent's 5859.4 sectors: the rest is zero
cmp .out <(tail -c +$((5859 * 512 + 1)) base.raw && head -c $((5860 * 512 - 3000001)) /dev/zero) ||
	fail "the last sector of a raw parent"
size 0 d.vhd -r 0 -c 0
size 0 d.vhd -R 20971520 -c 0
check_status 0 "$U" read d.vhd -R 0x10 -c 0x11 -x
[ "$(wc -l <.out)" = 2 ] && grep -q '^0000000010  ' .out || fail "a dump of 17 bytes: $(cat .out)"
for mode in "-d 0" "-m 0" "-a" "-r 0"; do
	# shellcheck disable=SC2086
	"$U" read d.vhd $mode >plain && "$U" read d.vhd $mode -x >dump || fail "$mode"
	[ "$(od -An -v -tx1 plain | tr -d ' \n' | sha256sum)" = "$(cut -c12-60 dump | tr -d ' \n' | sha256sum)" ] ||
		fail "$mode -x shows other bytes"
done

# beyond: 34, nothing printed; not allocated: 61
for mode in "-b 10" "-m 10" "-d 10" "-j 10" "-b 9 -c 2" "-i 40960" "-t 40960" "-e 40960" "-e 40959 -c 2" \
	"-i 0 -c 40961" "-r 40960" "-r 40959 -c 2" "-R 20971520" "-R 0 -c 20971521" "-R 18446744073709551615"; do
	# shellcheck disable=SC2086
	check_status 34 "$U" read d.vhd $mode
	[ ! -s .out ] || fail "$mode printed something"
done
for mode in "-m 5" "-d 5"; do
	# shellcheck disable=SC2086
	check_status 61 "$U" read d.vhd $mode
done
# a fixed image has no blocks, one without a batmap no batmap
for mode in "-b 0" "-t 0" "-m 0" "-i 0" "-e 0" -B -a "-j 0" "-d 0"; do
	# shellcheck disable=SC2086
	check_status 95 "$U" read f.vhd $mode
done
check_status 34 "$U" read f.vhd -r 8192
# one question a call, and a number where one belongs
for mode in "-p -b 0" "-r 0 -R 0" "-r -1" "-b x" "-b" "-c 3" "" "-r 0 -c" "-p -c x"; do
	# shellcheck disable=SC2086
	check_status 22 "$U" read d.vhd $mode
done
exit 0
