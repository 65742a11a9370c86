#!/bin/bash
# snapshot: what 7-Zip reads through the link; sizes, names, raw parents, -S, times
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
need 7zz
cd "$T" || exit 1

# same IMAGE...: 7-Zip reads of each what convert makes of it
same() {
	local image
	for image in "$@"; do
		"$U" convert "$image" ours.raw --force || fail "convert $image"
		rm -rf theirs && mkdir theirs
		7zz x -tvhd -otheirs "$image" >/dev/null || fail "7zz refuses $image"
		cmp ours.raw theirs/* || fail "7zz reads $image differently"
	done
}

"$U" create -n base.vhd -s 20 || fail create
head -c 3000000 /dev/urandom | "$U" write base.vhd --offset 1000000 || fail write
"$U" snapshot -n child.vhd -p base.vhd || fail snapshot
same child.vhd
head -c 70001 /dev/urandom | "$U" write child.vhd --offset 2000777 || fail write
"$U" snapshot -n leaf.vhd -p child.vhd --block-size 64K || fail snapshot
head -c 5000 /dev/urandom | "$U" write leaf.vhd --offset 2010000 || fail write
same base.vhd child.vhd leaf.vhd
check_status 0 "$U" check -p -b leaf.vhd

# names beyond ASCII, in directories beside and above
mkdir -p 'nördlich/ä' 'süd'
cp base.vhd 'süd/Ünïcode 日本 😀.vhd'
"$U" snapshot -n 'nördlich/ä/kind.vhd' -p 'süd/Ünïcode 日本 😀.vhd' || fail "names"
check_out "$T/süd/Ünïcode 日本 😀.vhd" "$U" query -p 'nördlich/ä/kind.vhd'
check_out '../../süd/Ünïcode 日本 😀.vhd' "$U" query -p -u 'nördlich/ä/kind.vhd'
check_status 0 "$U" compare 'nördlich/ä/kind.vhd' base.vhd
# both moved together: still found
mkdir moved && mv 'nördlich' 'süd' moved/
check_status 0 "$U" compare 'moved/nördlich/ä/kind.vhd' base.vhd
# wherever one stands
(cd / && check_status 0 "$U" snapshot -n "$T/far.vhd" -p "$T/base.vhd") || exit 1
check_out './base.vhd' "$U" query -p -u far.vhd
long=$(printf 'n%.0s' {1..240})
cp base.vhd "$long.vhd"
check_status 0 "$U" snapshot -n "c$long.vhd" -p "$long.vhd"
check_status 0 "$U" compare "c$long.vhd" base.vhd
check_status 84 "$U" snapshot -n x.vhd -p "$(cp base.vhd $'line\nbreak.vhd' && echo $'line\nbreak.vhd')"
[ ! -e x.vhd ] || fail "left behind"

# the parent's time is its file's
touch -d '2024-02-29T12:34:56Z' base.vhd
"$U" snapshot -n timed.vhd -p base.vhd
"$U" read -p timed.vhd | grep -q 'Parent timestamp *: .*2024' || fail "parent timestamp"
check_status 0 "$U" check timed.vhd

# a raw parent
head -c 3000001 /dev/urandom >disk.raw
check_status 117 "$U" snapshot -n r.vhd -p disk.raw
check_status 0 "$U" snapshot -n r.vhd -p disk.raw -m
"$U" convert r.vhd r.raw || fail "convert"
cmp <(head -c 3000001 r.raw) disk.raw || fail "raw parent"
[ "$(stat -c %s r.raw)" = 3000320 ] || fail "size of the child of a raw disk"
check_out "$T/disk.raw" "$U" query -p r.vhd
echo x | "$U" write r.vhd --offset 5 || fail "write"
check_status 0 "$U" snapshot -n r2.vhd -p r.vhd
check_out 'chain depth: 3' "$U" query -d r2.vhd

# larger than the parent; room to grow
check_status 0 "$U" snapshot -n big.vhd -p base.vhd --size 100M -S 1000
check_out 100 "$U" query -v big.vhd
check_out 1000 "$U" query -S big.vhd
check_status 22 "$U" snapshot -n small.vhd -p base.vhd -S 10
check_status 22 "$U" snapshot -n small.vhd -p base.vhd --size 10M

# a parent that is damaged, hidden, missing in the middle
check_status 0 "$U" set -n base.vhd -f hidden -v 1
check_status 0 "$U" snapshot -n h.vhd -p base.vhd
mv child.vhd gone
check_status 2 "$U" snapshot -n x.vhd -p leaf.vhd
mv gone child.vhd
head -c 2000 base.vhd >cut.vhd
check_status 117 "$U" snapshot -n x.vhd -p cut.vhd
exit 0
