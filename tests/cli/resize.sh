#!/bin/bash
# resize: larger and smaller, every type, with other readers; refusals; kills
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
cd "$T" || exit 1

# contains IMAGE RAW SIZE: the disk has SIZE bytes, begins as RAW does, and is zero behind it
contains() {
	if [ "$3" -lt 20000000000 ]; then
		cp --sparse=always "$2" want.raw && truncate -s "$3" want.raw
		check_status 0 "$U" compare "$1" want.raw
	else # its beginning: looking at terabytes of nothing takes its time
		"$U" convert "$1" - --to raw 2>/dev/null | head -c "$(stat -c %s "$2")" | cmp - "$2" ||
			fail "$1 contains something else"
	fi
	check_out "$1 is valid" "$U" check "$1" -b
}
fill_some() { # IMAGE SEED: data here and there
	local i
	for i in 0 3 9 10 11 15; do
		head -c 700000 /dev/urandom | "$U" write "$1" --offset $((i * 2000000 + 1000 * $2)) || fail write
	done
}
"$U" create -n d.vhd -s 40 && fill_some d.vhd 1 && "$U" convert d.vhd d.raw || fail make

# in the sectors of the table that is there, and with blocks moved
cp d.vhd a.vhd
for size in 41M 300M 3000M 100G 2040G; do
	bytes=$(numfmt --from=iec $size)
	check_out '' "$U" resize a.vhd --size $size
	check_out $((bytes >> 20)) "$U" query -n a.vhd -v
	contains a.vhd d.raw "$bytes"
done
[ "$("$U" read -n a.vhd -p | sed -n 's/^Max BAT size *: //p')" = 1044480 ] || fail "the table's length"
head -c 5000 /dev/zero | tr '\0' n | "$U" write a.vhd --offset 2000G || fail "write to what is new"
[ "$("$U" read a.vhd -R $((2000 << 30)) -c 3)" = nnn ] || fail "read what is new"
check_status 0 "$U" resize a.vhd --size 40M --cut-data
contains a.vhd d.raw $((40 << 20))
if command -v 7zz >/dev/null; then
	7zz x -tvhd -so a.vhd 2>/dev/null | cmp - d.raw || fail "7zz reads something else"
fi
# exact sizes; those of -s are multiples of 2 MiB
cp d.vhd a.vhd
check_status 0 "$U" resize a.vhd --size $((50000 * 1024 + 512))
contains a.vhd d.raw $((50000 * 1024 + 512))
check_status 0 "$U" resize -n a.vhd -s 51
check_out 52 "$U" query -n a.vhd -v

# what a block has behind the end does not come to light
"$U" create -n t.vhd --size 5M --block-size 4M && head -c 1M /dev/zero | tr '\0' x |
	"$U" write t.vhd --offset 4M || fail tail
check_status 0 "$U" resize t.vhd --size $((4 * 1024 * 1024 + 700 * 512)) --cut-data
"$U" convert t.vhd t.raw
check_status 0 "$U" resize t.vhd --size 64M
contains t.vhd t.raw $((64 << 20))

# room asked for when it was made
"$U" create -n s.vhd -s 20 -S 100 || fail create
check_out 100 "$U" query -n s.vhd -S
check_status 0 "$U" resize -n s.vhd -s 100 -f
check_status 28 "$U" resize -n s.vhd -s 102 -f
check_err 'room for'
check_out 100 "$U" query -n s.vhd -v
check_status 0 "$U" resize -n s.vhd -s 2000

# creators that others read in their own way
if command -v qemu-img >/dev/null; then
	qemu-img create -q -f vpc q.vhd 20M && "$U" convert d.vhd q.raw &&
		head -c 16M q.raw | "$U" write q.vhd --offset 0 || fail "qemu's image"
	"$U" convert q.vhd q0.raw --force
	check_status 0 "$U" resize q.vhd --size 3000M
	contains q.vhd q0.raw $((3000 << 20))
	[ "$(qemu-img info q.vhd | sed -n 's/.*(\([0-9]*\) bytes)/\1/p' | head -1)" = $((3000 << 20)) ] ||
		fail "qemu sees another size: $(qemu-img info q.vhd)"
	qemu-img convert -f vpc -O raw q.vhd q1.raw && cmp -n $((16 << 20)) q1.raw q0.raw || fail "qemu reads"
	"$U" create -n f.vhd --size 30M -r && fill_some f.vhd 0 && "$U" convert f.vhd f.raw || fail fixed
fi
"$U" convert d.vhd w.vhd --for hyperv && check_status 0 "$U" resize w.vhd --size 20G
contains w.vhd d.raw $((20 << 30))

# fixed: at both ends
"$U" convert d.vhd f.vhd --to fixed --force || fail fixed
check_out '' "$U" resize f.vhd --size 100M
contains f.vhd d.raw $((100 << 20))
[ "$(stat -c %s f.vhd)" = $(((100 << 20) + 512)) ] || fail "length of a fixed image"
check_out '' "$U" resize f.vhd --size 40M
contains f.vhd d.raw $((40 << 20))
check_status 34 "$U" resize f.vhd --size 10M
check_out '' "$U" resize f.vhd --size 10M --cut-data
head -c 10M d.raw >ten.raw
contains f.vhd ten.raw $((10 << 20))
[ -z "$(find . -name '.*journal')" ] || fail "a journal is left"

# smaller: only if nothing is lost
cp d.vhd a.vhd && cp a.vhd before.vhd
check_status 34 "$U" resize a.vhd --size 20M
check_err "data at byte 22001000"
cmp a.vhd before.vhd || fail "a refusal wrote"
head -c 12M /dev/zero | "$U" write a.vhd --offset 20M
head -c 8M /dev/zero | "$U" write a.vhd --offset 32M
check_status 0 "$U" resize a.vhd --size 20M --json
python3 -c 'import json; o = json.load(open(".out")); assert o["freed_blocks"] > 3, o' || fail "blocks given back"
cp .out shown.resize
head -c 20M d.raw >twenty.raw
contains a.vhd twenty.raw $((20 << 20))

# children; and parents that are larger than they should be
"$U" create -n p.vhd -s 40 && fill_some p.vhd 0 && "$U" snapshot -n c.vhd -p p.vhd || fail snapshot
echo own | "$U" write c.vhd --offset 5M && "$U" convert c.vhd c.raw || fail child
check_status 0 "$U" resize c.vhd --size 3000M
contains c.vhd c.raw $((3000 << 20))
check_status 0 "$U" check c.vhd -p
"$U" modify -n c.vhd -p p.vhd || fail "another parent after"
"$U" resize p.vhd --size 64M && head -c 9000000 /dev/urandom | "$U" write p.vhd --offset 50M || fail parent
"$U" snapshot -n g.vhd -p p.vhd && "$U" resize g.vhd --size 52M --cut-data || fail "smaller than its parent"
"$U" convert g.vhd g.raw
check_status 0 "$U" resize g.vhd --size 70M
contains g.vhd g.raw $((70 << 20))
"$U" resize g.vhd --size 70M || fail "no change"
check_status 34 "$U" resize c.vhd --size 4M # own data
check_status 34 "$U" resize g.vhd --size 20M # the parent's
# zeros that hide a parent's data are zeros: they go only when the disk has ended before them
"$U" create -n under.vhd -s 32 && head -c 1M /dev/urandom | "$U" write under.vhd --offset 20M || fail under
"$U" snapshot -n over.vhd -p under.vhd && head -c 2M /dev/zero | "$U" write over.vhd --offset 20M || fail over
cp over.vhd over.before
check_status 0 "$U" resize over.vhd --size 10M --dry-run
cmp over.vhd over.before || fail "a dry run changes the image"
echo own | "$U" write over.vhd --offset 25M || fail write
check_status 34 "$U" resize over.vhd --size 10M
cp over.before over.vhd
check_status 0 "$U" resize over.vhd --size 10M --json
python3 -c 'import json; o = json.load(open(".out")); assert o["freed_blocks"] == 1, o' || fail "blocks of zeros"
check_out 10 "$U" query -n over.vhd -v
check_status 0 "$U" check over.vhd -p

# zeros that an interrupted growth left behind the end go with any resize, to a smaller size too
"$U" snapshot -n left.vhd -p under.vhd || fail left
"$U" resize left.vhd --size 10M --cut-data && "$U" resize left.vhd --size 32M || fail left
footers_say left.vhd $((10 << 20))
check_status 0 "$U" check left.vhd
grep -q 'warning: block 10: .* as an interrupted resize leaves it' .out .err || fail "not named: $(cat .out .err)"
for size in 6M 10M; do
	cp left.vhd left2.vhd
	check_status 0 "$U" resize left2.vhd --size $size
	check_out 0 "$U" query -n left2.vhd -a
	check_status 0 "$U" check left2.vhd
	! grep -q 'past the end of the disk' .out .err || fail "left over: $(cat .out .err)"
done

# so they do with compact and repair, and nothing else of the image changes
"$U" convert left.vhd left.raw || fail left
for how in compact repair; do
	cp left.vhd left2.vhd
	check_status 0 "$U" $how --dry-run left2.vhd
	cmp left.vhd left2.vhd || fail "a dry run of $how"
	check_status 0 "$U" $how left2.vhd
	check_out 0 "$U" query -n left2.vhd -a
	check_status 0 "$U" check left2.vhd
	! grep -q 'past the end of the disk' .out .err || fail "left over by $how: $(cat .out .err)"
	"$U" compare left2.vhd left.raw >/dev/null || fail "$how changed the disk"
	check_status 0 "$U" resize left2.vhd --size 32M
done

for dry in '' --dry-run; do # which says how many
	cp left.vhd left2.vhd
	check_status 0 "$U" compact $dry left2.vhd --json
	python3 -c 'import json; print(*map(json.load(open(".out")).get, ("dropped_blocks", "file_after")))' >"said$dry"
done
cmp said said--dry-run || fail "a dry run of compact said $(cat said--dry-run), not $(cat said)"

# journals: relative, made, existing; never an image
mkdir sub
(cd sub && "$U" resize -n ../c.vhd -s 3100 -j jrn) || fail "with a journal"
[ -z "$(ls sub)" ] || fail "the journal stays"
head -c 100000 /dev/urandom >jrn
check_status 0 "$U" resize -n c.vhd -s 3200 -j jrn
[ ! -e jrn ] || fail "the journal stays"
cp d.vhd other.vhd
check_status 17 "$U" resize -n c.vhd -s 3300 -j other.vhd
cmp d.vhd other.vhd || fail "an image used as a journal"
check_status 22 "$U" resize -n c.vhd -s 3300 -j jrn -f
check_status 2 "$U" resize -n c.vhd -s 3300 -j no/jrn
check_out 3200 "$U" query -n c.vhd -v

# usage, refusals, dry run
cp d.vhd a.vhd
check_status 22 "$U" resize a.vhd
check_status 22 "$U" resize a.vhd --size 0
check_status 22 "$U" resize a.vhd --size 1000
check_status 22 "$U" resize -n a.vhd -s x
check_status 34 "$U" resize a.vhd --size 2041G
check_status 2 "$U" resize no.vhd -s 10
check_status 22 "$U" resize a.vhd --size 10M -f
check_status 117 "$U" resize d.raw --size 100M
check_status 0 "$U" resize a.vhd --size 100G --dry-run
grep -q 'would resize' .out || fail "dry run says $(cat .out)"
check_status 34 "$U" resize a.vhd --size 10M --dry-run
check_status 0 "$U" resize a.vhd --size 100G --dry-run --json
cp .out shown.dry
cmp a.vhd d.vhd || fail "a dry run wrote"
check_schema shown.resize shown.dry
mkfifo hold
"$U" write a.vhd --offset 0 <hold &
exec 9>hold
sleep 0.3
check_status 16 "$U" resize a.vhd --size 100M
exec 9>&-
wait
# readers through a child: in the room there is, yes; moving, no
"$U" create -n r.vhd -s 4 -S 8 && echo x | "$U" write r.vhd --offset 0 && "$U" snapshot -n rc.vhd -p r.vhd || fail r
(exec 8<rc.vhd && "$U" convert rc.vhd - --to raw | (sleep 0.6 && cat >/dev/null)) &
sleep 0.3
check_status 0 "$U" resize -n r.vhd -s 8 -f
wait

# killed at any time: what it leaves is whole, and goes on
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
	cp d.vhd k.vhd
	"$U" resize k.vhd --size 1000G &
	pid=$!
	sleep "0.00$((i % 10))"
	kill -9 $pid 2>/dev/null
	wait $pid 2>/dev/null
	"$U" check k.vhd >shown
	found=$?
	# between the two footers it has two sizes, which is said, and nothing else is wrong
	[ $found = 0 ] || { [ $found = 117 ] && grep -q 'a resize stopped between' shown &&
		! grep -v -e ': note: ' -e 'a resize stopped between' shown; } || fail "killed: $(cat shown)"
	check_status 0 "$U" resize k.vhd --size 1000G
	check_status 0 "$U" check k.vhd -b # maybe with a note of leaked space
	"$U" convert k.vhd - --to raw 2>/dev/null | head -c 40M | cmp - d.raw || fail "killed, and then"
done

# a full disk
if [ "$(id -u)" = 0 ] && mkdir small && mount -t tmpfs -o size=8m none small 2>/dev/null; then
	at_exit "umount '$T/small'"
	"$U" create -n small/x.vhd -s 8 && head -c 5M /dev/urandom | "$U" write small/x.vhd --offset 0 || fail small
	"$U" convert small/x.vhd x.raw
	check_status 28 "$U" resize small/x.vhd --size 2040G
	used=$(stat -c %b small/x.vhd)
	check_status 28 "$U" resize small/x.vhd --size 2040G
	[ "$(stat -c %b small/x.vhd)" -le $((used + 64)) ] || fail "it takes more and more: $(stat -c %b small/x.vhd)"
	[ "$used" -le $((6 * 2048)) ] || fail "it takes $used sectors after a failure"
	check_status 0 "$U" compare small/x.vhd x.raw
	check_status 0 "$U" resize small/x.vhd --size 10M
	truncate -s 10M x.raw
	check_status 0 "$U" compare small/x.vhd x.raw
	check_status 0 "$U" check small/x.vhd -b
fi
exit 0
