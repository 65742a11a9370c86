#!/bin/bash
# peers: what other tools got wrong, one case each; ours does the sane thing
. "$(dirname "$0")/../lib/cli.sh"
. "$(dirname "$0")/vectors.inc"
U=$BIN/vhd-util
need python3
cd "$T" || exit 1

# put_random FILE OFFSET BYTES: through the chain
put_random() { head -c "$3" /dev/urandom | "$U" write "$1" --offset "$2" || fail "write $1"; }
# fixture NAME: the files of that fixture, in ./NAME
fixture() { python3 "$root/fixtures/make.py" "$1" . || fail "fixture $1"; }
# within SECONDS cmd…: the command ends in time, whatever its status
within() {
	local limit=$1
	shift
	timeout "$limit" "$@" >"$T/.out" 2>"$T/.err"
	[ $? != 124 ] || fail "$* takes more than $limit s"
}

# set marker zeroed the first sector of the batmap; afterwards nothing opened
make_xs xs.vhd
cp xs.vhd marked.vhd
check_status 0 "$U" set -n marked.vhd -f marker -v 1
check_out 'marked.vhd is valid' "$U" check -n marked.vhd -b
check_out 'marker: 1' "$U" query -n marked.vhd -m
check_status 0 "$U" compare marked.vhd xs.vhd
cmp -s <(tail -c +2561 marked.vhd | head -c 512) <(tail -c +2561 xs.vhd | head -c 512) ||
	fail "the map was changed"

# fixed images: read -p refused them, check said nothing
"$U" create -n fixed.vhd -s 4 -r || fail "create -r"
check_status 0 "$U" read -n fixed.vhd -p
grep -q 'Disk type *: Fixed hard disk' .out || fail "read -p of a fixed disk: $(cat .out)"
check_out 'fixed.vhd is valid' "$U" check -n fixed.vhd

# an image without an end footer: coalesce corrupted its heap
"$U" create -n base.vhd -s 16 && "$U" snapshot -n child.vhd -p base.vhd -e || fail "make"
put_random child.vhd 100000 500000
"$U" convert child.vhd want.raw || fail "convert"
truncate -s -512 child.vhd
check_status 0 "$U" coalesce -n child.vhd
check_status 0 "$U" compare base.vhd want.raw
check_out 'base.vhd is valid' "$U" check base.vhd -b

# a truncated child: status 0, and zeros in the parent; a block past the end crashed
"$U" create -n tb.vhd -s 16 && "$U" snapshot -n tc.vhd -p tb.vhd -e || fail "make"
put_random tb.vhd 0 3000000
put_random tc.vhd 0 4194304
cp tb.vhd tb.keep
mkdir aside && cp tc.vhd aside/cut.vhd
for bytes in $((3 << 20)) $((1 << 20)) 12000; do
	cp aside/cut.vhd tc.vhd
	truncate -s $bytes tc.vhd
	check_status 117 "$U" coalesce -n tc.vhd
	cmp tb.vhd tb.keep || fail "a child cut to $bytes bytes was merged"
done
cp aside/cut.vhd tc.vhd
printf '\0\177\377\377' | dd of=tc.vhd bs=1 seek=1540 conv=notrunc status=none
check_status 117 "$U" coalesce -n tc.vhd
cmp tb.vhd tb.keep || fail "a child with a block past its end was merged"

# 3 TiB were taken
check_status 34 "$U" create -n big.vhd -s $((3 << 20))
[ ! -e big.vhd ] || fail "a disk beyond the format was begun"

# other block sizes: only part of the table was seen
"$U" create -n small-blocks.vhd --size 64M --block-size 64K || fail "create"
put_random small-blocks.vhd $((63 << 20)) 100000
check_out 2 "$U" query -n small-blocks.vhd -a
check_out 'small-blocks.vhd is valid' "$U" check small-blocks.vhd -b
"$U" snapshot -n over.vhd -p small-blocks.vhd && put_random over.vhd $((62 << 20)) 3000 || fail "snapshot"
"$U" convert over.vhd over.raw && check_status 0 "$U" coalesce over.vhd
check_status 0 "$U" compare small-blocks.vhd over.raw

# parents whose names are not ASCII
name='Ünïcødé 磁盘 😀 #%.vhd'
"$U" create -n "$name" -s 4 && "$U" snapshot -n uc.vhd -p "$name" -e || fail "a name beyond ASCII"
check_out "$(pwd -P)/$name" "$U" query -n uc.vhd -p
check_status 0 "$U" check uc.vhd -p

# cycles of parents: no end
for f in parent-is-itself parent-cycle; do
	fixture $f
	for command in "check -p" "query -d" "query -p" info "map" "convert --to raw" "coalesce"; do
		# shellcheck disable=SC2086
		case $command in
		convert*) within 5 "$U" $command $f/child.vhd never.raw ;;
		*) within 5 "$U" $command $f/child.vhd ;;
		esac
	done
	check_status 40 "$U" query -d $f/child.vhd
	check_status 40 "$U" check -p $f/child.vhd
	[ ! -e never.raw ] || fail "$f was converted"
done

# unknown commands: status 0; errors: negative numbers on stdout
check_status 22 "$U" frobnicate -n xs.vhd
[ ! -s .out ] || fail "an error on stdout"
for command in "query -v" "check" "read -p" "set -f hidden -v 1" "coalesce" "info" "map"; do
	# shellcheck disable=SC2086
	check_status 2 "$U" $command -n missing.vhd
	[ ! -s .out ] && [ "$(wc -l <.err)" = 1 ] || fail "$command of a missing file: $(cat .out .err)"
done

# scan -c of a missing file printed a second, phantom line
check_status 0 "$U" scan -c missing.vhd
[ "$(grep -c . .out)" = 1 ] && grep -q '^vhd=missing.vhd scan-error=-2 error-message=' .out ||
	fail "scan of a missing file: $(cat .out)"

# the search for overlaps was quadratic: 100000 blocks
python3 - "$root/fixtures" <<'PY' || fail "make many"
import struct, sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
from vhd import *
n, block = 100000, 4096
s = Sparse(n * block, block)
start = len(s.raw) // 512 + 1
s.bat = [start + 9 * i for i in range(n)]
with open("many.vhd", "wb") as f:
    whole = s.close()
    f.write(whole[:-512])
    f.seek((start + 9 * n) * 512)
    f.write(whole[-512:])
PY
within 10 "$U" check many.vhd
grep -qx 'many.vhd is valid' .out || fail "many blocks: $(head -3 .out)"

# a kill between map and header of the batmap: repair failed for good
cp xs.vhd torn.vhd
put torn.vhd 0xa00 ff
check_status 117 "$U" check torn.vhd
check_status 0 "$U" compare torn.vhd xs.vhd
head -c 512 xs.vhd | "$U" write torn.vhd --offset 0 || fail "an image with a torn batmap is not written"
check_out 'torn.vhd is valid' "$U" check torn.vhd -b

# a bad header cost ten seconds of sleep
make_v2 bad.vhd
put bad.vhd 0x240 99
for command in "query -v" check info "read -p" map; do
	# shellcheck disable=SC2086
	within 3 "$U" $command -n bad.vhd
done

# a hostile length of the batmap: query -s aborted
for f in batmap-sectors-0 batmap-sectors-4294967295; do
	fixture $f
	check_out 6304256 "$U" query -n $f/$f.vhd -s
done

# images of qemu (force_size), Disk2vhd, Windows children with an absolute path: called damaged
for f in chs-maximum disk2vhd-like; do
	fixture $f
	check_out "$f/$f.vhd is valid" "$U" check -n $f/$f.vhd
done
fixture vector-child # W2ku names C:\vm\v2.vhd, which is not there
check_out "vector-child/v3.vhd is valid" "$U" check -t -p -n vector-child/v3.vhd

# no locks: metadata was changed under a running writer
"$U" create -n busy.vhd -s 16 && "$U" snapshot -n busy-child.vhd -p busy.vhd -e || fail "make"
put_random busy-child.vhd 0 4096
mkfifo hold
"$U" write busy.vhd --offset 0 <hold &
exec 9>hold
sleep 0.4
check_status 16 "$U" set -n busy.vhd -f hidden -v 1
check_status 16 "$U" coalesce -n busy-child.vhd
check_status 0 "$U" query -n busy.vhd -v
exec 9>&-
wait

# a raw parent that names a system file was overwritten by coalesce, run by root
echo "root:x:0:0" >system-file
truncate -s 1M system-file
cp system-file system-keep
mkdir -p inner
head -c 1048576 /dev/zero >inner/disk.raw
for how in link absolute dots; do
	rm -rf inner/evil.vhd inner/disk.link
	python3 - "$root/fixtures" $how "$(pwd -P)/system-file" <<'PY' || fail "make evil"
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
from vhd import *
import os
s = Sparse(MIB, 65536, kind=4, uuid=CHILD_ID, parent=bytes(16))
if sys.argv[2] == "link":
    os.symlink(sys.argv[3], "inner/disk.link")
    s.locator(0, b"MacX", b"file://./disk.link")
elif sys.argv[2] == "absolute":
    s.locator(0, b"MacX", b"file://" + sys.argv[3].encode())
else:
    s.locator(0, b"W2ru", "..\\system-file".encode("utf-16-le"))
with open("inner/evil.vhd", "wb") as f:
    f.write(s.put(0, b"\xff" * 16, {0: b"\x66" * 65536}).close())
PY
	check_status 13 "$U" coalesce inner/evil.vhd
	check_status 13 "$U" coalesce --force inner/evil.vhd
	check_status 13 "$U" convert inner/evil.vhd leaked.raw
	cmp system-file system-keep || fail "a file outside was written ($how)"
	[ ! -e leaked.raw ] || fail "a file outside was read ($how)"
done

# half-made copies were called valid: a killed conversion leaves nothing under the target's name
truncate -s 2G sparse.raw
head -c 300000000 /dev/urandom | dd of=sparse.raw conv=notrunc bs=1M status=none
for delay in 0.05 0.15 0.3; do
	"$U" convert sparse.raw copy.vhd 2>/dev/null &
	pid=$!
	sleep $delay
	kill -9 $pid 2>/dev/null
	wait $pid 2>/dev/null
	[ ! -e copy.vhd ] || { "$U" compare copy.vhd sparse.raw >/dev/null || fail "half a copy"; }
	rm -f copy.vhd .copy.vhd.*
done
exit 0
