#!/bin/bash
# create, snapshot, set, write: what is made, what is refused, what other tools say
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
need qemu-img 7zz
cd "$T" || exit 1
check_out '' "$U" create -n a.vhd -s 11
check_out 12 "$U" query -n a.vhd -v
check_status 0 qemu-img info -f vpc a.vhd
check_status 0 7zz t -tvhd a.vhd
check_out 'a.vhd is valid' "$U" check a.vhd
check_status 17 "$U" create -n a.vhd -s 11
check_status 0 "$U" create -n a.vhd --size 34816 --force
check_status 34 "$U" create -n x.vhd --size 3T
check_status 34 "$U" create -n x.vhd --size 2040G --block-size 4K
check_status 22 "$U" create -n x.vhd --size 1M --block-size 3M
check_status 22 "$U" create -n x.vhd --size 1000
check_status 22 "$U" create -n x.vhd
check_status 2 "$U" create -n no/where.vhd -s 10
[ ! -e x.vhd ] || fail "something was left behind"
check_status 0 "$U" create -n f.vhd -s 10 -r
[ "$(stat -c %s f.vhd)" = $((10 * 1048576 + 512)) ] || fail "fixed size"
[ "$(stat -c %b f.vhd)" -ge $((10 * 2048)) ] || fail "not reserved"
check_status 0 "$U" create -n big.vhd --size 2040G
check_status 0 "$U" create -n room.vhd -s 10 -S 1000
check_out 1000 "$U" query -n room.vhd -S
for size in 4K 64K 512K 64M; do
	check_status 0 "$U" create -n bs.vhd --size 100M --block-size $size --force
	head -c 300000 /dev/urandom >data
	"$U" write bs.vhd --offset 77777 <data || fail "write at $size"
	"$U" convert bs.vhd bs.raw --force && cmp <(tail -c +77778 bs.raw | head -c 300000) data ||
		fail "contents at $size"
	check_out 'bs.vhd is valid' "$U" check bs.vhd -b
done

# snapshots
check_status 0 "$U" create -n p.vhd -s 20
check_out '' "$U" snapshot -n e.vhd -p p.vhd
echo data | "$U" write p.vhd --offset 0 || fail write
check_status 0 "$U" snapshot -n c1.vhd -p p.vhd
check_status 0 "$U" snapshot -n c2.vhd -p c1.vhd
check_out "$T/p.vhd" "$U" query -n c2.vhd -p # past the empty c1
check_status 0 "$U" snapshot -n c3.vhd -p c1.vhd -e
check_out "$T/c1.vhd" "$U" query -n c3.vhd -p
check_status 28 "$U" snapshot -n c4.vhd -p c3.vhd -e -l 3
check_status 0 "$U" snapshot -n c4.vhd -p c3.vhd -e -l 4
check_out 'chain depth: 4' "$U" query -n c4.vhd -d
check_status 2 "$U" snapshot -n c5.vhd -p absent.vhd
check_status 84 "$U" snapshot -n c5.vhd -p "$(cp p.vhd 'a\b.vhd' && echo 'a\b.vhd')"
check_status 22 "$U" snapshot -n c5.vhd -p p.vhd --size 2M
mkdir sub && mv c1.vhd sub/
check_status 2 "$U" convert c3.vhd x.raw
check_status 0 "$U" convert c3.vhd x.raw --parent-root sub --parent-root .

# set
check_status 0 "$U" set -n p.vhd -f hidden -v 1
check_out 'hidden: 1' "$U" query -n p.vhd -f
check_status 16 "$U" write p.vhd --offset 0 <<<no
check_status 0 "$U" write p.vhd --offset 0 --force <<<yes
check_status 0 "$U" set -n p.vhd -f marker -v 7
check_out 'marker: 7' "$U" query -n p.vhd -m
check_out 'p.vhd is valid' "$U" check p.vhd -b
check_status 22 "$U" set -n p.vhd -f nonsense -v 1
check_status 22 "$U" set -n p.vhd -f hidden -v 300
check_status 95 "$U" set -n f.vhd -f marker -v 1

# write
check_status 34 "$U" write p.vhd --offset 20M --force <<<x
check_status 22 "$U" write p.vhd
exit 0
