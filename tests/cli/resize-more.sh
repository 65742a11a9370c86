#!/bin/bash
# resize, compact, optimize: devices, encrypted images, what coalesce advises
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
cd "$T" || exit 1

# a child that grew: its parent gets room as the message says
"$U" create -n p.vhd -s 10 && echo hi | "$U" write p.vhd --offset 1M && "$U" snapshot -n c.vhd -p p.vhd || fail make
check_status 0 "$U" resize -n c.vhd -s 100
echo far | "$U" write c.vhd --offset 90M || fail write
check_status 34 "$U" coalesce c.vhd
advice=$(sed -n "s/.*make room first: vhd-util \(.*\)/\1/p" .err)
[ -n "$advice" ] || fail "no advice"
eval "\"$U\" ${advice/JOURNAL/jrn}" || fail "the advice: $advice"
check_out 'Coalesced 1 sectors' "$U" coalesce c.vhd
[ "$("$U" read p.vhd -R $((90 << 20)) -c 3)" = far ] || fail "merged"
check_status 0 "$U" check c.vhd -p -b

# encrypted: the key's hash moves with the batmap, and what is zero in cipher text is not dropped
head -c 32 /dev/urandom >k
"$U" create -n e.vhd -s 20 && "$U" key -s -n e.vhd -k k || fail key
"$U" key -p -n e.vhd >key.hash || fail "key -p"
check_status 0 "$U" resize e.vhd --size 3000M
check_out "$(cat key.hash)" "$U" key -p -n e.vhd
check_status 0 "$U" compact e.vhd
check_status 0 "$U" check e.vhd -b
check_out "$(cat key.hash)" "$U" key -p -n e.vhd

# devices: the footer stays in the last sector, what is new reads as zero
[ "$(id -u)" = 0 ] || exit 0
head -c 64M /dev/urandom >dev.img
dev=$(losetup -f --show dev.img 2>/dev/null) || exit 0
at_exit "losetup -d $dev"
"$U" create -n "$dev" -s 20 --force && head -c 8M /dev/urandom | "$U" write "$dev" --offset 1M || fail "a device"
"$U" convert "$dev" d.raw --to raw || fail convert
check_status 0 "$U" resize "$dev" --size 20G
check_status 0 "$U" check "$dev" -b
"$U" convert "$dev" - --to raw 2>/dev/null | head -c 20M | cmp - d.raw || fail "a larger disk on a device"
for c in compact optimize; do
	check_status 0 "$U" $c "$dev"
	check_status 0 "$U" check "$dev" -b
done
check_status 0 "$U" resize "$dev" --size 20M
check_status 0 "$U" compare "$dev" d.raw
"$U" create -n "$dev" -s 20 -r --force || fail "fixed"
check_status 0 "$U" resize "$dev" --size 40M
check_status 0 "$U" check "$dev"
[ -z "$("$U" convert "$dev" - --to raw | tr -d '\0' | head -c 1)" ] || fail "old bytes came to light"
check_status 28 "$U" resize "$dev" --size 64M
check_status 0 "$U" check "$dev"
exit 0
