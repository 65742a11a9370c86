#!/bin/bash
# delta: what changed between two images, sent and received
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
cd "$T" || exit 1
noise() { head -c "$1" /dev/urandom; }

# base <- mid <- leaf, here; there only base
"$U" create -n base.vhd -s 24
noise 3000000 | "$U" write base.vhd --offset 0
"$U" snapshot -n mid.vhd -p base.vhd
noise 700000 | "$U" write mid.vhd --offset 1234567
"$U" snapshot -n leaf.vhd -p mid.vhd
noise 1000 | "$U" write leaf.vhd --offset 20000000
head -c 100000 /dev/zero | "$U" write leaf.vhd --offset 500000
mkdir there
cp base.vhd there/
before=$(sha256sum base.vhd mid.vhd leaf.vhd there/base.vhd)

# to a file, which is an image by itself
check_status 0 "$U" delta create base.vhd leaf.vhd --dry-run --json -o d.vhd
cp .out dry.json
[ -e d.vhd ] && fail "a dry run wrote"
check_status 0 "$U" delta create base.vhd leaf.vhd -o d.vhd --json
cp .out create.json
check_out 'd.vhd is valid' "$U" check d.vhd -b
"$U" check d.vhd -p -b >.out || fail "check: $(cat .out)"
"$U" compare d.vhd leaf.vhd || fail "the delta on its parent"
[ "$("$TOOLS/flat" d.vhd base.vhd | sha256sum)" = "$("$TOOLS/flat" leaf.vhd mid.vhd base.vhd | sha256sum)" ] ||
	fail "our own reader"
if command -v 7zz >/dev/null; then
	7zz t -tvhd d.vhd >.7z 2>&1 || fail "7zz: $(cat .7z)"
fi
# about what changed, in blocks of 64 KiB
[ "$(stat -c %s d.vhd)" -lt 1300000 ] || fail "$(stat -c %s d.vhd) bytes"
python3 - d.vhd create.json dry.json <<'P' || fail "sizes: $(cat create.json dry.json)"
import json, os, sys
size, made, dry = os.path.getsize(sys.argv[1]), json.load(open(sys.argv[2])), json.load(open(sys.argv[3]))
sys.exit(not (size == made["bytes"] == dry["bytes"] and made["blocks"] == dry["blocks"]
              and 700000 <= made["changed_bytes"] <= 805000))
P

# through a pipe, the same bytes; again and again the same
"$U" delta create base.vhd leaf.vhd >piped || fail "to a pipe"
"$U" delta create base.vhd leaf.vhd | cmp - piped || fail "another delta"
# (a file names its parent from where it is, here the same)
cmp d.vhd piped || fail "pipe and file differ"
"$U" delta create base.vhd leaf.vhd --gzip >piped.gz || fail gzip
gzip -dc piped.gz | cmp - piped || fail "gzip"
"$U" delta create base.vhd leaf.vhd -o d.vhd.gz && gzip -dc d.vhd.gz | cmp - piped || fail "suffix"
right() { # FILE
	"$U" compare "$1" leaf.vhd || fail "$1 contains something else"
	"$U" check "$1" -p -b >.out || fail "check $1: $(cat .out)"
	check_out "$1 is valid" "$U" check "$1"
	[ "$("$U" query -n "$1" -p)" = "$T/there/base.vhd" ] || fail "parent of $1"
	[ "$(find there -name '.*' -type f)" = '' ] || fail "something is left: $(find there -name '.*')"
}
"$U" delta create base.vhd leaf.vhd | "$U" delta apply - there/base.vhd there/new.vhd --json >apply.json || fail "piped"
right there/new.vhd
check_schema create.json dry.json apply.json
id() { "$U" info "$1" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["id"])'; }
[ "$(id there/new.vhd)" = "$(id leaf.vhd)" ] || fail "the id"
check_status 17 "$U" delta apply piped there/base.vhd there/new.vhd
check_status 0 "$U" delta apply piped.gz there/base.vhd there/new.vhd --force
right there/new.vhd
echo hello | "$U" write there/new.vhd --offset 4M && check_status 0 "$U" check there/new.vhd
rm there/new.vhd
check_status 0 "$U" delta apply piped there/base.vhd there/new.vhd --dry-run
[ -e there/new.vhd ] && fail "a dry run wrote"
[ "$(sha256sum base.vhd mid.vhd leaf.vhd there/base.vhd)" = "$before" ] || fail "what was read changed"

# cut off anywhere: nothing is visible, and it goes on
size=$(stat -c %s piped)
meta=$(((size > 20000 ? 12288 : 0)))
for cut in 0 1 511 512 513 1535 1536 1537 2048 $meta $((meta + 5000)) $((size / 2)) $((size - 1024)) $((size - 1023)) \
	$((size - 513)) $((size - 512)) $((size - 511)) $((size - 1)); do
	check_status 117 "$U" delta apply - there/base.vhd there/new.vhd < <(head -c "$cut" piped)
	check_err 'resume'
	[ -e there/new.vhd ] && fail "cut at $cut: half a target"
	arrived=$("$U" delta arrived there/new.vhd)
	if [ "$cut" -lt 512 ]; then [ "$arrived" = 0 ]; else [ "$arrived" = "$cut" ]; fi || fail "cut at $cut: $arrived"
	"$U" delta create base.vhd leaf.vhd --skip "$arrived" |
		"$U" delta apply - there/base.vhd there/new.vhd --resume || fail "resume at $cut"
	right there/new.vhd
	rm there/new.vhd
	# the whole of it once more is no mistake
	check_status 117 "$U" delta apply - there/base.vhd there/new.vhd < <(head -c "$cut" piped)
	check_status 0 "$U" delta apply piped there/base.vhd there/new.vhd --resume
	right there/new.vhd
	rm there/new.vhd
done
# several times
check_status 117 "$U" delta apply - there/base.vhd there/new.vhd < <(head -c 100000 piped)
check_status 117 "$U" delta apply - there/base.vhd there/new.vhd --resume < <(tail -c +100001 piped | head -c 300000)
check_out 400000 "$U" delta arrived there/new.vhd
check_status 0 "$U" delta arrived there/new.vhd --json
cp "$T/.out" arrived.json && check_schema arrived.json
grep -q '"bytes": 400000' arrived.json || fail "arrived: $(cat arrived.json)"
check_status 0 "$U" delta apply - there/base.vhd there/new.vhd --resume < <(tail -c +400001 piped)
right there/new.vhd
rm there/new.vhd
check_status 22 "$U" delta create base.vhd leaf.vhd --skip $((size + 1))
check_status 22 "$U" delta create base.vhd leaf.vhd --skip 5 -o x.vhd

# corrupted anywhere: refused, nothing left
RANDOM=${SEED:-7}
for ((k = 0; k < 25; k++)); do
	at=$(((RANDOM * 32768 + RANDOM) % size))
	[ $k -lt 8 ] && at=$((k * 200))
	[ $k -ge 20 ] && at=$((size - 1 - (k - 20) * 250))
	cp piped bad
	byte=$(tail -c +$((at + 1)) piped | head -c 1 | od -An -tu1)
	printf "\\x$(printf %x $(((byte + 1 + RANDOM % 255) % 256)))" | dd of=bad bs=1 seek=$at conv=notrunc status=none
	got=0
	"$U" delta apply bad there/base.vhd there/new.vhd 2>.err || got=$?
	[ $got = 117 ] || fail "byte $at: status $got"
	[ "$(ls -A there)" = base.vhd ] || grep -q resume .err || fail "byte $at: $(ls -A there) is left"
	rm -f there/.new.vhd.delta
done
cat piped piped >bad
check_status 117 "$U" delta apply bad there/base.vhd there/new.vhd
check_err 'after its end'
for f in base.vhd leaf.vhd /dev/null "$root/README.md"; do
	check_status 117 "$U" delta apply "$f" there/base.vhd there/new.vhd
done
rm -f there/.new.vhd.delta
# whole and right, but not linked: nothing need come any more, whatever comes is looked at
whole=there/.new.vhd.delta.whole
cp piped $whole
check_out "$size" "$U" delta arrived there/new.vhd
check_status 117 "$U" delta apply - there/base.vhd there/new.vhd --resume < <(head -c 100000 piped)
check_err 'does not end as the delta does'
check_out "$size" "$U" delta arrived there/new.vhd
"$U" delta create base.vhd leaf.vhd --skip "$size" | "$U" delta apply - there/base.vhd there/new.vhd --resume ||
	fail "nothing but the link"
right there/new.vhd
check_status 0 "$U" check there/new.vhd
rm there/new.vhd
tail -c 100 piped >piped.100 && tail -c 70000 piped >piped.70000 || fail tail
for rest in piped piped.100 piped.70000; do
	cp piped $whole
	check_status 0 "$U" delta apply "$rest" there/base.vhd there/new.vhd --resume --json
	python3 -c 'import json, sys; o = json.load(open(".out")); assert o["bytes"] == o["resumed_bytes"] == int(sys.argv[1]), o' \
		"$size" || fail "what is told: $(cat .out)"
	right there/new.vhd
	[ ! -e $whole ] || fail "it stays"
	rm there/new.vhd
done
cp leaf.vhd $whole
check_status 117 "$U" delta apply piped there/base.vhd there/new.vhd --resume
[ ! -e $whole ] || fail "what is of no use is kept"
echo nothing >$whole
check_status 117 "$U" delta apply piped there/base.vhd there/new.vhd --resume
[ ! -e $whole ] || fail "what is of no use is kept"
echo nothing >$whole
check_status 0 "$U" delta apply piped there/base.vhd there/new.vhd
[ ! -e $whole ] || fail "it stays"
right there/new.vhd
rm there/new.vhd
: >victim
ln -s ../victim $whole
check_status 40 "$U" delta apply piped there/base.vhd there/new.vhd --resume
[ ! -s victim ] || fail "written through a link"
rm $whole

# a resumed transfer of another delta
check_status 117 "$U" delta apply - there/base.vhd there/new.vhd < <(head -c 200000 piped)
noise 512 | "$U" write leaf.vhd --offset 21000000
"$U" delta create base.vhd leaf.vhd >other
"$U" delta create base.vhd leaf.vhd --skip 200000 >rest
check_status 117 "$U" delta apply rest there/base.vhd there/new.vhd --resume
ls there/.new.vhd.delta 2>/dev/null && fail "what is of no use is kept"

# another parent
"$U" create -n there/else.vhd -s 24
check_status 117 "$U" delta apply other there/else.vhd there/new.vhd
check_err 'another parent'
# in use, missing, wrong
check_status 2 "$U" delta apply none there/base.vhd there/new.vhd
check_status 2 "$U" delta apply other none.vhd there/new.vhd
check_status 2 "$U" delta create base.vhd none.vhd
check_status 40 "$U" delta create base.vhd base.vhd
check_status 22 "$U" delta create base.vhd
check_status 22 "$U" delta make a b
check_status 22 "$U" delta
ln -s /etc/passwd there/.new.vhd.delta
check_status 40 "$U" delta apply other there/base.vhd there/new.vhd
rm there/.new.vhd.delta
mkfifo hold
"$U" write leaf.vhd --offset 0 <hold &
exec 9>hold
sleep 0.3
check_status 16 "$U" delta create base.vhd leaf.vhd -o x.vhd
exec 9>&-
wait
[ -e x.vhd ] && fail "a refusal wrote"

# raw parents; nothing changed; larger children; other blocks
noise 2000000 >r.raw
"$U" snapshot -n onraw.vhd -p r.raw -m
noise 5000 | "$U" write onraw.vhd --offset 77777
cp r.raw there/
"$U" delta create r.raw onraw.vhd -m | "$U" delta apply - there/r.raw there/new.vhd -m || fail "raw"
"$U" compare there/new.vhd onraw.vhd || fail "raw: contents"
rm there/new.vhd
"$U" snapshot -n same.vhd -p base.vhd -e
"$U" delta create base.vhd same.vhd | "$U" delta apply - there/base.vhd there/new.vhd || fail "no change"
"$U" compare there/new.vhd base.vhd || fail "no change: contents"
[ "$("$U" query -n there/new.vhd -a)" = 0 ] || fail "no change: blocks"
rm there/new.vhd
"$U" snapshot -n larger.vhd -p base.vhd --size 40M
noise 100000 | "$U" write larger.vhd --offset 30M
for b in 4K 64K 2M; do
	"$U" delta create base.vhd larger.vhd --block-size $b | "$U" delta apply - there/base.vhd there/new.vhd || fail "$b"
	"$U" compare there/new.vhd larger.vhd || fail "$b: contents"
	"$U" check there/new.vhd -b >.out || fail "$b: $(cat .out)"
	rm there/new.vhd
done
# between images that are no chain: only what differs
"$U" convert leaf.vhd copy.vhd
"$U" delta create base.vhd copy.vhd -o x.vhd || fail "no chain"
"$U" compare x.vhd copy.vhd || fail "no chain: contents"
[ "$(stat -c %s x.vhd)" -lt 1400000 ] || fail "no chain: $(stat -c %s x.vhd) bytes"

# with a changed-block log only what it names is compared: what else differs is not seen
C=$BIN/cbt-util
"$C" create -n log -s $((24 << 20)) || fail "cbt-util"
check_status 22 "$U" delta create base.vhd copy.vhd --log log -o y.vhd
check_err 'not consistent'
"$C" set -n log -f 1
"$U" delta create base.vhd copy.vhd --log log -o y.vhd || fail "an empty log"
[ "$("$U" query -n y.vhd -a)" = 0 ] || fail "an empty log: blocks"
printf '\377\377\377\377\377\377\377\377' | dd of=log bs=1 seek=48 conv=notrunc status=none # 4 MiB
"$U" delta create base.vhd copy.vhd --log log -o y.vhd --force || fail "a log"
"$U" convert copy.vhd some.raw && "$U" convert base.vhd base.raw || fail convert
dd if=base.raw of=some.raw bs=4M skip=1 seek=1 conv=notrunc status=none
"$U" compare y.vhd some.raw || fail "a log: contents"
"$C" create -n short -s $((23 << 20)) && "$C" set -n short -f 1
check_status 22 "$U" delta create base.vhd copy.vhd --log short -o y.vhd --force
check_status 2 "$U" delta create base.vhd copy.vhd --log none -o y.vhd --force

# a full disk: kept, and gone on with
if mkdir small && mount -t tmpfs -o size=1M none small 2>/dev/null; then
	at_exit "umount '$T/small'"
	cp other there/other
	check_status 28 "$U" delta apply other there/base.vhd small/new.vhd
	[ -e small/new.vhd ] && fail "half a target on a full disk"
	mount -o remount,size=8M small
	check_status 0 "$U" delta apply other there/base.vhd small/new.vhd --resume
	"$U" compare small/new.vhd leaf.vhd || fail "after a full disk"
	rm small/*
	mount -o remount,size=1M small
	check_status 28 "$U" delta create base.vhd leaf.vhd -o small/d.vhd
	[ -z "$(ls -A small)" ] || fail "left on a full disk: $(ls -A small)"
fi
# a rest that begins as gzip does
"$U" snapshot -n zipped.vhd -p base.vhd -e || fail make
printf '\037\213\010\000\000\000\000\000\000\003 a member of a file of the guest' | "$U" write zipped.vhd --offset 8M || fail write
"$U" delta create base.vhd zipped.vhd >whole || fail create
at=$(python3 -c 'print(open("whole", "rb").read().index(b"\x1f\x8b\x08"))') || fail "no member in the delta"
for length in $((at - 1)) "$at" $((at + 1)); do
	rm -f there/zipped.vhd
	check_status 117 "$U" delta apply - there/base.vhd there/zipped.vhd < <(head -c "$length" whole)
	[ "$("$U" delta arrived there/zipped.vhd)" = "$length" ] || fail "arrived"
	"$U" delta create base.vhd zipped.vhd --skip "$length" | "$U" delta apply - there/base.vhd there/zipped.vhd --resume ||
		fail "going on at $length of a member at $at"
	"$U" compare there/zipped.vhd zipped.vhd || fail "gone on at $length: contents"
done

# encrypted: so is the delta, with the same key; whoever applies it needs none
head -c 64 /dev/urandom >key && head -c 64 /dev/urandom >other.key || fail keys
rm -rf secret && mkdir secret secret/there
"$U" create -n secret/base.vhd -s 24 && "$U" key -s -n secret/base.vhd -k key || fail "make"
yes topsecret | head -c 300000 | "$U" write secret/base.vhd --offset 1M --key-file key || fail write
cp secret/base.vhd secret/there/
"$U" snapshot -n secret/mid.vhd -p secret/base.vhd && "$U" snapshot -n secret/leaf.vhd -p secret/mid.vhd -e || fail snapshot
yes topsecret | head -c 500000 | "$U" write secret/mid.vhd --offset 1234567 --key-file key || fail write
head -c 70000 /dev/zero | "$U" write secret/leaf.vhd --offset 1300000 --key-file key || fail write
check_status 95 "$U" delta create secret/base.vhd secret/leaf.vhd -o secret/d
check_status 22 "$U" delta create secret/base.vhd secret/leaf.vhd -o secret/d --key-file other.key
[ ! -e secret/d ] || fail "a delta without its key"
"$U" delta create secret/base.vhd secret/leaf.vhd -o secret/d --key-file key || fail "encrypted"
"$U" delta create secret/base.vhd secret/leaf.vhd --key-file - <key | cmp - secret/d || fail "another encrypted delta"
! grep -q topsecret secret/d || fail "the delta is clear"
[ "$(stat -c %s secret/d)" -lt 1000000 ] || fail "more than what changed: $(stat -c %s secret/d) bytes"
check_status 22 "$U" delta apply secret/d secret/there/base.vhd secret/there/new.vhd --key-file key
"$U" delta apply secret/d secret/there/base.vhd secret/there/new.vhd || fail "apply"
"$U" compare secret/there/new.vhd secret/leaf.vhd --key-file key || fail "the encrypted delta has something else"
"$U" check secret/there/new.vhd -p -b >.out || fail "check: $(cat .out)"
[ "$("$U" query -n secret/there/new.vhd -p)" = "$T/secret/there/base.vhd" ] || fail "its parent"
check_status 95 "$U" convert secret/there/new.vhd flat.raw --force
# an encrypted leaf over what is clear
"$U" snapshot -n secret/over.vhd -p base.vhd && "$U" key -s -n secret/over.vhd -k key || fail "make"
yes topsecret | head -c 9000 | "$U" write secret/over.vhd --offset 3M --key-file key || fail write
"$U" delta create base.vhd secret/over.vhd -o secret/d --key-file key --force || fail "over clear"
! grep -q topsecret secret/d || fail "the delta is clear"
"$U" delta apply secret/d there/base.vhd there/over.vhd || fail "apply"
"$U" compare there/over.vhd secret/over.vhd --key-file key || fail "the delta over clear has something else"
# clear over encrypted has no meaning; a key that nothing needs is a mistake
check_status 22 "$U" delta create secret/base.vhd base.vhd -o secret/d --key-file key --force
check_err 'encrypted'
check_status 22 "$U" delta create base.vhd leaf.vhd -o secret/d --key-file key --force
exit 0
