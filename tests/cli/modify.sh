#!/bin/bash
# modify: another parent, another size, no data
. "$(dirname "$0")/../lib/cli.sh"
. "$(dirname "$0")/vectors.inc"
U=$BIN/vhd-util
cd "$T" || exit 1

# a.vhd and b.vhd differ; c.vhd is a child of a.vhd with a little of its own
for i in a b; do
	"$U" create -n $i.vhd -s 16 || fail create
	head -c 3000000 /dev/zero | tr '\0' $i | "$U" write $i.vhd --offset 1M || fail write
done
"$U" snapshot -n c.vhd -p a.vhd || fail snapshot
head -c 512 /dev/zero | tr '\0' o >own
"$U" write c.vhd --offset 2M <own || fail write
over() { # PARENT: what c.vhd contains on it
	"$U" convert "$1" over.raw --force --to raw "${@:2}" &&
		dd if=own of=over.raw bs=512 seek=4096 conv=notrunc status=none
}
is_on() { # IMAGE PARENT
	over "${@:2}"
	"$U" compare "$1" over.raw || fail "$1 on $2"
	check_out "$1 is valid" "$U" check "$1" -b
	"$U" check "$1" -p -b >.out || fail "check of $1 on $2: $(cat .out)"
}
is_on c.vhd a.vhd
size=$(stat -c %s c.vhd)
check_out '' "$U" modify -n c.vhd -p b.vhd
is_on c.vhd b.vhd
check_out "$T/b.vhd" "$U" query -n c.vhd -p
[ "$(stat -c %s c.vhd)" = "$size" ] || fail "there was room"

# back and forth, also to longer paths, which go behind the last block
long=$(printf 'd%.0s' {1..200})
mkdir -p "$long/$long/$long/$long"
cp b.vhd "$long/$long/$long/$long/b.vhd"
for i in 1 2 3 4 5 6; do
	"$U" modify c.vhd --parent a.vhd || fail "to a, $i"
	is_on c.vhd a.vhd
	"$U" modify c.vhd --parent "$long/$long/$long/$long/b.vhd" || fail "to a long name, $i"
	is_on c.vhd "$long/$long/$long/$long/b.vhd"
done
[ "$(stat -c %s c.vhd)" -lt $((size + 65536)) ] || fail "it grows and grows"
head -c 512 /dev/zero | "$U" write c.vhd --offset 9M || fail "write after"
check_out "c.vhd is valid" "$U" check c.vhd
# a child elsewhere, and a parent elsewhere
mkdir sub
"$U" modify -n c.vhd -p a.vhd || fail back
mv c.vhd sub/
check_status 2 "$U" check sub/c.vhd -p
check_status 0 "$U" modify -n sub/c.vhd -p a.vhd
check_out "../a.vhd" "$U" query -n sub/c.vhd -p -u
mv sub/c.vhd .
"$U" modify -n c.vhd -p a.vhd || fail back
# a raw parent
head -c 16M /dev/zero | tr '\0' r >r.raw
check_status 117 "$U" modify -n c.vhd -p r.raw
check_status 0 "$U" modify -n c.vhd -p r.raw -m
[ "$("$U" read c.vhd -R 0 -c 3)" = rrr ] || fail "raw parent"
"$U" modify -n c.vhd -p a.vhd || fail "from a raw parent"

# the id alone: one sector
cp c.vhd old.vhd
"$U" snapshot -n e.vhd -p a.vhd --force && cp e.vhd e0.vhd
"$U" convert a.vhd n.vhd && mv n.vhd a.vhd
check_status 117 "$U" compare e.vhd a.vhd
"$U" modify e.vhd -p a.vhd || fail "same name"
"$U" compare e.vhd a.vhd || fail "same name, contents"
[ "$(cmp -l e0.vhd e.vhd | awk '$1 <= 512 || $1 > 1024' | wc -l)" = 0 ] || fail "more than one sector"
cp e.vhd e0.vhd
"$U" modify e.vhd -p a.vhd && cmp e.vhd e0.vhd || fail "nothing to do"
"$U" modify c.vhd -p a.vhd

# other creators: their codes stay, W2ru is always there, aliases go
make_v3 v3.vhd
make_v2 v2.vhd
cp v2.vhd other.vhd
cp v3.vhd f.vhd
check_status 0 "$U" modify f.vhd -p other.vhd
"$U" read f.vhd -p >headers
grep -q 'decoded name : ./other.vhd' headers || fail "locators of v3: $(cat headers)"
[ "$(grep -c 'decoded name : ./other.vhd' headers)" = 3 ] || fail "three locators: $(cat headers)"
"$U" compare f.vhd v3.vhd || fail "v3"
check_out 'f.vhd is valid' "$U" check f.vhd
[ "$("$TOOLS/flat" f.vhd other.vhd | sha256sum)" = "$("$TOOLS/flat" v3.vhd v2.vhd | sha256sum)" ] ||
	fail "our own reader"
if command -v 7zz >/dev/null; then
	7zz t -tvhd f.vhd >.7z 2>&1 || fail "7zz: $(cat .7z)"
	7zz t -tvhd c.vhd >.7z 2>&1 || fail "7zz: $(cat .7z)"
fi

# refused: cycles, no child, not there
"$U" snapshot -n g.vhd -p c.vhd -e || fail snapshot
check_status 40 "$U" modify -n c.vhd -p g.vhd
check_err 'one of its parents'
check_status 40 "$U" modify -n c.vhd -p c.vhd
check_status 22 "$U" modify -n a.vhd -p b.vhd
check_status 2 "$U" modify -n c.vhd -p no.vhd
check_status 2 "$U" modify -n no.vhd -p a.vhd
check_status 22 "$U" modify -n c.vhd
check_status 22 "$U" modify -n c.vhd -m
check_status 22 "$U" modify -p a.vhd
cp c.vhd c0.vhd
check_out "would make 'c.vhd' a child of 'b.vhd'" "$U" modify c.vhd -p b.vhd --dry-run
cmp c.vhd c0.vhd || fail "a dry run wrote"

# sizes
used=$("$U" query -n c.vhd -s)
check_status 22 "$U" modify -n c.vhd -s $((used - 512))
check_err 'are in use'
check_status 22 "$U" modify -n c.vhd -s $((used + 100))
check_status 22 "$U" modify -n c.vhd -s 0
for bytes in $((used + 40960)) $((used + 512)) $((used + 1048576)) "$used"; do
	check_out '' "$U" modify -n c.vhd -s $bytes
	[ "$(stat -c %s c.vhd)" = "$bytes" ] || fail "size $bytes: $(stat -c %s c.vhd)"
	is_on c.vhd a.vhd 2>/dev/null || fail "size $bytes"
done
"$U" create -n x.vhd -s 2 -r
check_status 22 "$U" modify -n x.vhd -s 4194304
check_status 0 "$U" modify -n x.vhd -s 2097664
check_status 95 "$U" modify -n x.vhd -z

# no data: all of it is the parent's
check_out "would drop all data of 'c.vhd'" "$U" modify c.vhd -z --dry-run
check_out '' "$U" modify -n c.vhd -z
"$U" compare c.vhd a.vhd || fail "data is left"
check_out 0 "$U" query -n c.vhd -a
check_out 'c.vhd is valid' "$U" check c.vhd -b
[ "$(stat -c %s c.vhd)" -lt 20000 ] || fail "the file keeps its length"
"$U" write c.vhd --offset 2M <own || fail "write when empty"
check_out 'c.vhd is valid' "$U" check c.vhd -b
check_out '' "$U" modify -n a.vhd -z
head -c 16M /dev/zero | cmp - <("$U" convert a.vhd - --to raw) || fail "a is not empty"

# no room for a longer path: it stays as it was
if mkdir small && mount -t tmpfs -o size=256K none small 2>/dev/null; then
	at_exit "umount '$T/small'"
	"$U" snapshot -n small/s.vhd -p a.vhd -e || fail "in a small place"
	cp small/s.vhd s0.vhd
	head -c 1M /dev/zero >small/fill 2>/dev/null
	check_status 28 "$U" modify small/s.vhd -p "$long/$long/$long/$long/b.vhd"
	check_out 'small/s.vhd is valid' "$U" check small/s.vhd
	check_out "$T/a.vhd" "$U" query -n small/s.vhd -p
	check_status 28 "$U" modify small/s.vhd -s 1048576
	check_out 'small/s.vhd is valid' "$U" check small/s.vhd
	mount -o remount,ro small
	check_status 30 "$U" modify small/s.vhd -p b.vhd
	check_status 30 "$U" rebase small/s.vhd b.vhd
fi

# in use: by a writer the data; the parent can be changed
mkfifo hold
"$U" write c.vhd --offset 0 <hold &
exec 9>hold
sleep 0.3
check_status 16 "$U" modify -n c.vhd -z
check_err 'vhd-util (pid'
check_status 16 "$U" modify -n c.vhd -s 1048576
check_status 16 "$U" modify -n c.vhd -p "$long/$long/$long/$long/b.vhd"
check_err 'too small'
check_status 0 "$U" modify -n c.vhd -p b.vhd
check_out "$T/b.vhd" "$U" query -n c.vhd -p
for i in a b a b a; do
	check_status 0 "$U" modify -n c.vhd -p $i.vhd
	check_out "$T/$i.vhd" "$U" query -n c.vhd -p
done
echo late >&9
exec 9>&-
wait
check_out "$T/a.vhd" "$U" query -n c.vhd -p
[ "$("$U" read c.vhd -R 0 -c 4)" = late ] || fail "what was written meanwhile"
"$U" check c.vhd -p -b >.out || fail "after a change beside a writer: $(cat .out)"
exit 0
