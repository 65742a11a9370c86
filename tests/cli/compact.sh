#!/bin/bash
# compact, optimize, fill: the contents stay, the file changes; other readers; refusals; kills
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
cd "$T" || exit 1

# same IMAGE RAW
same() {
	check_status 0 "$U" compare "$1" "$2"
	check_out "$1 is valid" "$U" check "$1" -b
}
storage() { echo $(($(stat -c '%b * 512' "$1"))); }
member() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1" "$2"; }
need python3

# blocks written in another order than the disk's, then much of it zeroed
"$U" create -n a.vhd -s 64 || fail create
for at in 50 10 30 0 44 20 58 36; do
	head -c 3500000 /dev/urandom | "$U" write a.vhd --offset ${at}M || fail write
done
head -c 8M /dev/zero | "$U" write a.vhd --offset 28M
head -c 1M /dev/zero | "$U" write a.vhd --offset 51M
# zeros that have storage: a whole block, and half of one
for b in 0 10; do
	at=$("$U" read a.vhd -b $b | sed -n 's/.*offset: \([0-9]*\)$/\1/p')
	dd if=/dev/zero of=a.vhd bs=1M count=$((b ? 2 : 1)) seek=$((at + 512)) oflag=seek_bytes conv=notrunc status=none
done
"$U" convert a.vhd a.raw || fail convert
cp a.vhd o.vhd

check_status 0 "$U" compact a.vhd --dry-run --json
cp .out dry.json
cmp a.vhd o.vhd || fail "a dry run wrote"
check_status 0 "$U" compact a.vhd --dry-run
grep -q 'would give up' .out || fail "dry run says $(cat .out)"
check_status 0 "$U" compact a.vhd --json
cp .out shown.compact
same a.vhd a.raw
[ "$(member shown.compact dropped_blocks)" -ge 1 ] || fail "blocks of zeros"
for key in dropped_blocks moved_blocks file_after; do
	[ "$(member dry.json $key)" = "$(member shown.compact $key)" ] || fail "$key: promised $(member dry.json $key)"
done
[ "$(stat -c %s a.vhd)" = "$(member shown.compact file_after)" ] || fail "length"
[ "$(storage a.vhd)" -le $(($(member shown.compact storage_before) - 2000000)) ] ||
	fail "nothing gained: $(cat shown.compact)"
[ "$(member shown.compact storage_after)" -le $(($(member dry.json storage_after) + 65536)) ] || fail "storage"
check_out '' "$U" compact a.vhd # nothing left to do
same a.vhd a.raw
if command -v 7zz >/dev/null; then
	7zz x -tvhd -so a.vhd 2>/dev/null | cmp - a.raw || fail "7zz reads something else"
fi
if command -v qemu-img >/dev/null; then
	qemu-img convert -f vpc -O raw a.vhd q.raw && cmp -n $((64 << 20)) q.raw a.raw || fail "qemu reads something else"
fi

# in order
check_status 0 "$U" optimize a.vhd --dry-run
grep -q '^[1-9][0-9]* blocks' .out || fail "it is in order already"
check_status 0 "$U" optimize a.vhd --json
cp .out shown.optimize
same a.vhd a.raw
check_out "0 blocks of 'a.vhd' do not follow their predecessor" "$U" optimize a.vhd --dry-run
[ "$(stat -c %s a.vhd)" -le "$(member shown.compact file_after)" ] || fail "it grew"
last=0
for b in $(seq 0 31); do
	at=$("$U" read a.vhd -b "$b" | sed -n 's/.*offset: \([0-9]*\)$/\1/p')
	[ -z "$at" ] || { [ "$at" -gt "$last" ] && last=$at; } || fail "block $b at $at"
done

# all of it allocated; and back
cp a.vhd f.vhd
check_out "would allocate up to $((32 - $("$U" query -n f.vhd -a))) blocks of 'f.vhd'" "$U" fill f.vhd --dry-run
check_status 0 "$U" fill f.vhd --json
cp .out shown.fill
check_out 32 "$U" query -n f.vhd -a
same f.vhd a.raw
[ "$(storage f.vhd)" -ge $((64 << 20)) ] || fail "no storage for all of it: $(storage f.vhd)"
check_status 0 "$U" compact f.vhd
same f.vhd a.raw
[ "$(stat -c %s f.vhd)" -le "$(stat -c %s a.vhd)" ] || fail "fill and compact"

# children: what comes from the parent stays what it is
"$U" snapshot -n c.vhd -p a.vhd || fail snapshot
head -c 3M /dev/urandom | "$U" write c.vhd --offset 5M
head -c 3M /dev/zero | "$U" write c.vhd --offset 50M  # hides
head -c 4M /dev/zero | "$U" write c.vhd --offset 24M # hides nothing: zero below
"$U" convert c.vhd c.raw || fail convert
before=$("$U" query -n c.vhd -a)
check_status 0 "$U" compact c.vhd
same c.vhd c.raw
[ "$("$U" query -n c.vhd -a)" -lt "$before" ] || fail "zeros over zeros"
check_status 0 "$U" check c.vhd -p -b
check_status 0 "$U" fill -n c.vhd -b -f 100 -t 299
same c.vhd c.raw
check_out 'block 0: sec: 100: 1' "$U" read -n c.vhd -i 100
check_out 'block 0: sec: 299: 1' "$U" read -n c.vhd -i 299
check_out 'block 0: sec: 300: 0' "$U" read -n c.vhd -i 300
check_status 0 "$U" fill -n c.vhd
same c.vhd c.raw
mv a.vhd gone.vhd
check_status 0 "$U" read c.vhd -b 3
check_status 2 "$U" compact c.vhd
mv gone.vhd a.vhd
check_schema shown.compact shown.optimize shown.fill dry.json

# what cannot be done
"$U" create -n x.vhd -s 4 -r || fail create
for c in compact optimize; do
	check_status 95 "$U" $c x.vhd
	check_status 2 "$U" $c no.vhd
	check_status 22 "$U" $c
	check_status 117 "$U" $c a.raw
done
check_status 0 "$U" fill x.vhd
check_status 34 "$U" fill -n a.vhd -b -f 10 -t 131072
check_status 34 "$U" fill -n a.vhd -b -f 10 -t 9
check_status 22 "$U" fill -n a.vhd -f 10 -t 20
mkfifo hold
"$U" write a.vhd --offset 0 <hold &
exec 9>hold
sleep 0.3
for c in compact optimize fill; do check_status 16 "$U" $c a.vhd; done
exec 9>&-
wait

# by others: packed blocks, old bytes; no room for alignment
if command -v qemu-img >/dev/null; then
	qemu-img convert -f raw -O vpc -o force_size=on c.raw w.vhd && "$U" convert w.vhd w.raw || fail qemu
	head -c 6M /dev/zero | "$U" write w.vhd --offset 10M
	head -c 2M w.raw | "$U" write w.vhd --offset 16M
	"$U" convert w.vhd w.raw --force
	check_status 0 "$U" compact w.vhd
	same w.vhd w.raw
	check_status 0 "$U" optimize w.vhd
	same w.vhd w.raw
	qemu-img convert -f vpc -O raw w.vhd q.raw && cmp q.raw w.raw || fail "qemu reads something else"
fi

# killed at any time
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
	for c in compact optimize fill; do
		cp o.vhd k.vhd
		"$U" $c k.vhd &
		pid=$!
		sleep "0.00$((i % 10))"
		kill -9 $pid 2>/dev/null
		wait $pid 2>/dev/null
		check_status 0 "$U" check k.vhd -b
		check_status 0 "$U" compare k.vhd a.raw
		check_status 0 "$U" $c k.vhd
		check_status 0 "$U" compare k.vhd a.raw
	done
done 2>/dev/null

# a full disk: whole; compact makes do with room for a few blocks
if [ "$(id -u)" = 0 ] && mkdir small && mount -t tmpfs -o size=33m none small 2>/dev/null; then
	at_exit "umount '$T/small'"
	cp --sparse=always o.vhd small/x.vhd && head -c 30M /dev/urandom >small/fill 2>/dev/null
	check_status 28 "$U" fill small/x.vhd
	check_status 0 "$U" compare small/x.vhd a.raw
	"$U" compact small/x.vhd # moving takes room for one block
	check_status 0 "$U" compare small/x.vhd a.raw
	truncate -s -4M small/fill
	check_status 0 "$U" compact small/x.vhd
	same small/x.vhd a.raw
fi
exit 0
