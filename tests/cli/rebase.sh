#!/bin/bash
# rebase: another parent, the same contents; relink: a parent that has moved
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
cd "$T" || exit 1
fill() { head -c "$2" /dev/zero | tr '\0' "$1"; }

# base <- mid <- leaf; other: half of base's data, and some of its own
"$U" create -n base.vhd -s 32
fill a 8M | "$U" write base.vhd --offset 0
"$U" create -n other.vhd -s 32
fill a 4M | "$U" write other.vhd --offset 0
fill x 3M | "$U" write other.vhd --offset 20M
"$U" snapshot -n mid.vhd -p base.vhd
fill m 1000000 | "$U" write mid.vhd --offset 3M
fill m 100 | "$U" write mid.vhd --offset 25000000
"$U" snapshot -n leaf.vhd -p mid.vhd
fill l 300000 | "$U" write leaf.vhd --offset 3500000
fill l 3000 | "$U" write leaf.vhd --offset 30000000
"$U" convert leaf.vhd want.raw || fail convert
cp leaf.vhd leaf0.vhd
same() { # PARENT
	"$U" compare leaf.vhd want.raw || fail "contents on $1"
	check_out "$T/$1" "$U" query -n leaf.vhd -p
	check_out 'leaf.vhd is valid' "$U" check leaf.vhd -b
	"$U" check leaf.vhd -p -b >.out || fail "check on $1: $(cat .out)"
}

# onto its grandparent: what mid has, and no more
check_status 0 "$U" rebase leaf.vhd base.vhd --dry-run
check_status 0 "$U" rebase leaf.vhd base.vhd --dry-run --json
cp .out dry.json
cmp leaf.vhd leaf0.vhd || fail "a dry run wrote"
check_status 0 "$U" rebase leaf.vhd base.vhd --json
cp .out done.json
check_schema dry.json done.json
# mid wrote 3M..3M+1000000 and a sector at 25000000: what the leaf hides of it is not copied
python3 - done.json <<'P' || fail "copied: $(cat done.json)"
import json, sys
copied = json.load(open(sys.argv[1]))["copied_bytes"]
sys.exit(not (3500000 - 3 * 1048576 <= copied <= 1000000))
P
same base.vhd
check_out '' "$U" rebase leaf.vhd mid.vhd
same mid.vhd
# onto another image
check_out '' "$U" rebase leaf.vhd other.vhd
same other.vhd
# onto a raw disk, shorter than the image
fill r 5000000 >r.raw
check_out '' "$U" rebase -n leaf.vhd r.raw -m
check_out "$T/r.raw" "$U" query -n leaf.vhd -p
"$U" compare leaf.vhd want.raw || fail "contents on a raw disk"
check_out '' "$U" rebase leaf.vhd base.vhd
same base.vhd
# only the link
cp leaf0.vhd leaf.vhd
check_out "would make 'leaf.vhd' a child of 'base.vhd'" "$U" rebase leaf.vhd base.vhd --unsafe --dry-run
check_out '' "$U" rebase leaf.vhd base.vhd --unsafe
check_out "$T/base.vhd" "$U" query -n leaf.vhd -p
check_status 1 "$U" compare leaf.vhd want.raw

# what cannot be
cp leaf0.vhd leaf.vhd
check_status 22 "$U" rebase base.vhd other.vhd
check_status 22 "$U" rebase leaf.vhd
check_status 2 "$U" rebase leaf.vhd no.vhd
check_status 40 "$U" rebase mid.vhd leaf.vhd
mv mid.vhd away.vhd
check_status 2 "$U" rebase leaf.vhd other.vhd
check_err 'unsafe'
mv away.vhd mid.vhd
"$U" set -n leaf.vhd -f hidden -v 1
check_status 16 "$U" rebase leaf.vhd base.vhd
check_status 0 "$U" rebase leaf.vhd base.vhd --force
cp leaf0.vhd leaf.vhd
mkfifo hold
"$U" write leaf.vhd --offset 0 <hold &
exec 9>hold
sleep 0.3
check_status 16 "$U" rebase leaf.vhd base.vhd
exec 9>&-
wait
cmp leaf.vhd leaf0.vhd || fail "a refusal wrote"
# no room: it stays as it is
if mkdir small && mount -t tmpfs -o size=1M none small 2>/dev/null; then
	at_exit "umount '$T/small'"
	cp leaf0.vhd small/leaf.vhd 2>/dev/null || cp --sparse=always leaf0.vhd small/leaf.vhd
	"$U" modify small/leaf.vhd -p mid.vhd || fail "modify in a small place"
	cp --sparse=always small/leaf.vhd small.vhd
	head -c 10M /dev/zero >small/fill 2>/dev/null
	check_status 28 "$U" rebase small/leaf.vhd other.vhd
	"$U" compare small/leaf.vhd want.raw || fail "a full disk"
	check_out "$T/mid.vhd" "$U" query -n small/leaf.vhd -p
	"$U" check small/leaf.vhd -b >.out || fail "a full disk: $(cat .out)"
fi

# ── relink ──
cp leaf0.vhd leaf.vhd
check_out "the parent of 'leaf.vhd' is where it says: '$T/mid.vhd'" "$U" relink leaf.vhd .
mkdir -p store/a/b store/c
mv mid.vhd store/a/b/renamed.bin
cp base.vhd store/a/
ln -s ../a store/c/loop
ln -s / store/c/root
mkfifo store/c/pipe
printf 'conectix' >store/c/short
head -c 5000 /dev/urandom >store/c/noise
check_status 2 "$U" check leaf.vhd -p
check_status 2 "$U" relink leaf.vhd store/c
check_err 'no image with its parent'
check_status 22 "$U" relink leaf.vhd
check_status 2 "$U" relink leaf.vhd nowhere
check_status 22 "$U" relink base.vhd store
check_out "would be: 'leaf.vhd' is a child of '$T/store/a/b/renamed.bin'" "$U" relink leaf.vhd store --dry-run
cmp leaf.vhd leaf0.vhd || fail "a dry run wrote"
# two with one id: neither; the same file twice is one
cp store/a/b/renamed.bin store/twin.vhd
check_status 22 "$U" relink leaf.vhd store
check_err "store/twin.vhd"
check_err "store/a/b/renamed.bin"
rm store/twin.vhd
ln store/a/b/renamed.bin store/twin.vhd
check_status 0 "$U" relink leaf.vhd store/c store
grep -q "is a child of" .out || fail "relink says nothing"
rm store/twin.vhd
"$U" relink leaf.vhd store >/dev/null || fail "relink again"
check_out "$T/store/a/b/renamed.bin" "$U" query -n leaf.vhd -p
# its parent has moved too
check_status 0 "$U" relink store/a/b/renamed.bin store
check_status 0 "$U" compare leaf.vhd want.raw
exit 0
