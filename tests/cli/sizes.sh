#!/bin/bash
# sizes: units of letters and of long names, suffixes, exact or rounded, room to grow
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
cd "$T" || exit 1

# makes BYTES OPTIONS…: create succeeds and the disk has exactly these bytes
makes() {
	local want=$1 got
	shift
	check_out '' "$U" create -n a.vhd --force "$@"
	got=$("$U" info --json a.vhd | sed -n 's/^  "virtual_size": \([0-9]*\),$/\1/p')
	[ "$got" = "$want" ] || fail "create $*: $got bytes instead of $want"
	check_out 'a.vhd is valid' "$U" check a.vhd
}
# refuses STATUS OPTIONS…: and nothing is made
refuses() {
	local want=$1
	shift
	check_status "$want" "$U" create -n no.vhd "$@"
	[ ! -e no.vhd ] && [ "$(wc -l <.err)" = 1 ] || fail "create $*: $(cat .err)"
}

# --size: bytes, kept exactly
makes 512 --size 512
makes 1049088 --size 1049088
makes 34816 --size=34816
makes 1048576 --size 1024K
makes 1048576 --size 1m
makes 1048576 --size 1MiB
makes 1610612736 --size 1.5G
makes 1048576 --size 0x100000
makes 1099511627776 --size 1T
makes 2190433320960 --size 2040G
makes 12345856 --size 12345856 --block-size 4K
refuses 34 --size 2190433321472
refuses 34 --size 3T
refuses 34 --size 1P
for size in 0 100 513 1000 18446744073709551615; do refuses 22 --size $size; done
for size in '' ' 1M' -1 +5M 1X 1MM M 16E 18446744073709551616 0x 1e6 1,5G 10.G1; do
	refuses 22 --size "$size"
done

# -s: MiB, up to the next multiple of two
makes 2097152 -s 1
makes 2097152 -s 2
makes 4194304 -s 3
makes 10737418240 -s 10240
makes 2190433320960 -s 2088960
makes 2190433320960 -s 2088959
makes 6291456 -rs5
refuses 34 -s 2088961
for size in 0 10G 1.5 -4 x ''; do refuses 22 -s "$size"; done
refuses 22

# room: -S in MiB, --max-size as --size; query -S tells it
room() { # MIB OPTIONS…
	"$U" create -n a.vhd --force "${@:2}" && check_out "$1" "$U" query -S a.vhd
}
room 100 -s 10 -S 100
room 102 -s 10 -S 101
room 100 -s 10 --max-size 100M
room 10 --size 10M
room 2088960 -s 10 -S 2088960
refuses 22 -s 10 -S 7
refuses 34 -s 10 -S 2088961
"$U" create -n p.vhd -s 10 && check_status 0 "$U" snapshot -n s.vhd -p p.vhd -S 100
check_out 100 "$U" query -S s.vhd
check_status 0 "$U" snapshot -n s.vhd -p p.vhd --force --size 1G --max-size 2040G
check_out "$(printf '1024\n2088960')" "$U" query -v -S s.vhd
check_status 34 "$U" snapshot -n s.vhd -p p.vhd --force --max-size 2T

# fixed: the size and a footer, all of it reserved
makes 4194304 --fixed --size 4M
[ "$(stat -c %s a.vhd)" = 4194816 ] && [ "$(stat -c %b a.vhd)" -ge 8192 ] || fail "a fixed image"

# small blocks reach as far as 32 bits of sectors: then 34, before anything is made
makes 1073741824 --size 1G --block-size 4K
refuses 34 --size 2T --block-size 4K
for size in 1 512 2K 3M 128M 4097; do refuses 22 -s 10 --block-size $size; done
exit 0
