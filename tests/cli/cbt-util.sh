#!/bin/bash
# cbt-util: logs made, asked, changed and merged; what is no log; locks; full disks
. "$(dirname "$0")/../lib/cli.sh"
C=$BIN/cbt-util
need python3
cd "$T" || exit 1
A=6f1d2c3e-4b5a-4978-8695-a4b3c2d1e0f1
B=00112233-4455-6677-8899-aabbccddeeff
Z=00000000-0000-0000-0000-000000000000

check_status 0 "$C" --help
for c in create set get coalesce; do
	"$C" --help | grep -q "^  $c " || fail "--help does not list $c"
	check_status 0 "$C" $c --help
	check_status 22 "$C" $c --no-such-option
	check_status 22 "$C" $c
done
for s in bash zsh fish; do "$C" --completions $s | grep -q bitmap || fail "completions: $s"; done

# the file, byte by byte: a bit for 64 KiB, one more for what is left
check_out '' "$C" create -n log -s $((64 * 1024 * 9 + 1))
[ "$(stat -c %s log)" = 50 ] || fail "size of a log: $(stat -c %s log)"
check_out "$Z" "$C" get -n log -p
check_out "$Z" "$C" get -n log -c
check_out 0 "$C" get -n log -f
check_out 589825 "$C" get -n log -s
check_out '' "$C" set -n log -p $A -c $B -f 1
check_out "$A" "$C" get log -p
check_out "$B" "$C" get log -c
check_out 1 "$C" get log -f
printf '\201\377' | dd of=log bs=1 seek=48 conv=notrunc status=none
python3 - <<'PY' || fail "the header: $(od -A d -t x1 log)"
import struct, uuid
raw = open("log", "rb").read()
a, b, flag, pad, size = struct.unpack("<16s16sIIQ", raw[:48])
assert a == uuid.UUID("6f1d2c3e-4b5a-4978-8695-a4b3c2d1e0f1").bytes
assert b == uuid.UUID("00112233-4455-6677-8899-aabbccddeeff").bytes
assert (flag, pad, size, len(raw)) == (1, 0, 589825, 50)
PY
# bits past the end mean nothing
"$C" get -n log -b >bits && [ "$(od -An -t x1 bits)" = ' 81 03' ] || fail "bitmap: $(od -An -t x1 bits)"
check_status 0 "$C" get log --json
cp "$T/.out" shown
check_schema shown
python3 - <<PY || fail "JSON: $(cat shown)"
import json
o = json.load(open("shown"))
assert o == {"schema": "cbt-get/1", "file": "log", "parent": "$A", "child": "$B", "consistent": True,
             "size": 589825, "block_size": 65536, "changed_blocks": 4}, o
PY

# size: growing brings zeros, also where other bytes stood; shrinking cuts
head -c 100 /dev/urandom >>log
check_out '' "$C" set -n log -s $((64 * 1024 * 20))
"$C" get -n log -b >bits && [ "$(od -An -t x1 bits)" = ' 81 03 00' ] || fail "grown: $(od -An -t x1 bits)"
check_out 1 "$C" get log -f
check_out '' "$C" set -n log -s 65536
[ "$(stat -c %s log)" = 49 ] || fail "shrunk: $(stat -c %s log)"
"$C" get -n log -b >bits && [ "$(od -An -t x1 bits)" = ' 01' ] || fail "shrunk: $(od -An -t x1 bits)"
check_status 0 "$C" set -n log -s 1T --dry-run
check_out 65536 "$C" get log -s

# wrong arguments
for id in not-an-id "${A%1}" "${A}1" "${A/-/}" "${A/6/g}" "{$A}" ''; do
	check_status 22 "$C" set -n log -p "$id"
done
check_out '' "$C" set -n log -p "${A^^}"
check_out "$A" "$C" get log -p
check_status 22 "$C" set -n log -f 2
check_status 22 "$C" set -n log
check_status 22 "$C" set -n log -s 0
check_status 22 "$C" get -n log
check_status 22 "$C" get -n log -p -c
check_status 22 "$C" create -n new -s 0
check_status 22 "$C" create -n new
check_status 22 "$C" create -n new -s 18446744073709551615
check_status 2 "$C" get -n missing -p
check_status 2 "$C" set -n missing -f 1
check_status 17 "$C" create -n log -s 65536
[ ! -e new ] || fail "made in spite of an error"
: >new # an empty file is taken
check_out '' "$C" create -n new -s 2T
[ "$(stat -c %s new)" = $((48 + 4194304)) ] || fail "2 TiB"
check_status 0 "$C" create -n log -s 65536 --force
check_out 0 "$C" get log -f

# what is no log
head -c 47 /dev/zero >short
check_status 117 "$C" get short -p
head -c 48 log >stump
check_out 65536 "$C" get stump -s
check_status 117 "$C" get stump -b
[ ! -s "$T/.out" ] || fail "bits of a log that is cut off"
check_status 117 "$C" set stump -s 1M
check_status 117 "$C" coalesce -p stump -c log
python3 - <<'PY'
import struct
open("flag", "wb").write(struct.pack("<16s16sIIQ", b"", b"", 7, 0, 65536) + b"\0")
open("huge", "wb").write(struct.pack("<16s16sIIQ", b"", b"", 1, 0, 2**64 - 1) + b"\0")
PY
check_status 117 "$C" get flag -f
check_status 117 "$C" get huge -b
check_out 18446744073709551615 "$C" get huge -s
check_status 117 "$C" coalesce -p huge -c log
mkfifo fifo
for f in fifo . /dev/null; do check_status 22 timeout 5 "$C" get $f -p; done

# coalesce: or; the flag of both; sizes
bits_of() { printf "$2" | dd of="$1" bs=1 seek=48 conv=notrunc status=none; }
fresh() {
	rm -f p c
	"$C" create -n p -s $((64 * 1024 * 16)) && "$C" create -n c -s $((64 * 1024 * 24)) &&
		"$C" set -n p -f "$1" && "$C" set -n c -f "$2" -p $A -c $B || fail "make"
	bits_of p '\001\200'
	bits_of c '\020\000\001'
}
fresh 1 1
check_status 0 "$C" coalesce -p p -c c --dry-run
"$C" get -n c -b >bits && [ "$(od -An -t x1 bits)" = ' 10 00 01' ] || fail "--dry-run merged"
check_out '' "$C" coalesce -p p -c c
"$C" get -n c -b >bits && [ "$(od -An -t x1 bits)" = ' 11 80 01' ] || fail "merged: $(od -An -t x1 bits)"
check_out 1 "$C" get c -f
check_out "$A" "$C" get c -p
"$C" get -n p -b >bits && [ "$(od -An -t x1 bits)" = ' 01 80' ] || fail "the parent was changed"
fresh 0 1
check_out '' "$C" coalesce -p p -c c
check_out 0 "$C" get c -f
fresh 1 0
check_out '' "$C" coalesce -p p -c c
check_out 0 "$C" get c -f
check_status 22 "$C" coalesce -p c -c p
check_err 'larger disk'
check_status 22 "$C" coalesce -p c -c c
check_status 2 "$C" coalesce -p missing -c c
check_status 22 "$C" coalesce -p p

# a full disk: nothing is left, or what was there
if [ "$(id -u)" = 0 ] && mkdir small && mount -t tmpfs -o size=64k none small 2>/dev/null; then
	at_exit "umount '$T/small'"
	"$C" create -n small/log -s 65536 || fail "create"
	head -c 100000 /dev/zero >small/fill 2>/dev/null
	check_status 28 "$C" create -n small/new -s 65536
	check_status 28 "$C" create -n small/log -s 1M --force
	check_out 65536 "$C" get small/log -s
	[ "$(ls -A small | tr '\n' ' ')" = "fill log " ] || fail "left on a full disk: $(ls -A small)"
fi
exit 0
