#!/bin/bash
# memory: at most 64 MiB for any command, whatever an image's size and depth; and no long waits
# The times are bounds for a busy machine, many times what an idle one takes.
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
need python3
dir=$T
[ ! -d /dev/shm ] || dir=$(mktemp -d /dev/shm/vhd-test.XXXXXX)
at_exit "rm -rf '$dir'"
cd "$dir" || exit 1

cat >measure.py <<'PY'
# measure.py SECONDS cmd…: its status; 99 when it took longer, 98 when more than 64 MiB; with
# sanitizers, which have time and memory of their own, only its status
import os, sys, time
start = time.monotonic()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(pid, 0)
took, mib = time.monotonic() - start, used.ru_maxrss / 1024
print(f"{took * 1000:8.1f} ms {mib:6.1f} MiB  {' '.join(sys.argv[2:])[:100]}", file=sys.stderr)
strict = not os.environ.get("SAN")
if strict and mib > 64:
    sys.exit(98)
# user time as well: a machine that is busy with other things delays, it does not compute
if strict and took > float(sys.argv[1]) and used.ru_utime + used.ru_stime > float(sys.argv[1]) / 4:
    sys.exit(99)
sys.exit(os.waitstatus_to_exitcode(status) & 255)
PY
# bound SECONDS STATUS ARGS…: of vhd-util
bound() {
	local seconds=$1 want=$2 got=0
	shift 2
	python3 measure.py "$seconds" "$U" "$@" >out 2>err || got=$?
	tail -n 1 err
	[ "$got" != 98 ] || fail "more than 64 MiB: $(cat err)"
	[ "$got" != 99 ] || fail "more than $seconds s: $(cat err)"
	[ "$got" = "$want" ] || fail "$*: status $got instead of $want: $(cat err)"
}

# with sanitizers an eighth of it
part=1
[ -z "${SAN:-}" ] || part=8

# 2040 GiB, every block allocated: a sparse file
python3 - "$root/fixtures" $part <<'PY' || fail "make"
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
from vhd import *
size, block = (2040 << 30) // int(sys.argv[2]), 2 * MIB
s = Sparse(size, block)
n, first = s.entries, len(s.raw) // 512 + 7
for name, stride in (("full.vhd", 4097), ("scattered.vhd", 4104)):
    order = range(n) if name == "full.vhd" else [(i * 524287) % n for i in range(n)]
    s.bat = [first + stride * i for i in order]
    whole = s.close()
    with open(name, "wb") as f:
        f.write(whole[:-512])
        f.seek((first + stride * n) * 512)
        f.write(whole[-512:])
PY
bound 1 0 create -n new.vhd --size 2040G
bound 1 0 create -n new4k.vhd --size $((256 / part))G --block-size 4K
for f in full.vhd scattered.vhd; do
	bound 1 0 query -n $f -v -s -a
	[ "$(sed -n 1p out) $(sed -n 3p out)" = "$((2088960 / part)) $((1044480 / part))" ] || fail "query: $(cat out)"
	bound 4 0 check $f
	[ "$(cat out)" = "$f is valid" ] || fail "check: $(head -3 out)"
	bound 4 0 check -B $f
	bound 4 0 info $f
	bound 4 0 read $f -R $((1000 / part))G -c 3M
done
bound 20 0 map full.vhd # a million bitmaps are read: all zero here
[ "$(wc -l <out)" = 2 ] || fail "map: $(head -5 out)"
bound 20 0 map --picture scattered.vhd
bound 4 0 set -n scattered.vhd -f hidden -v 1
head -c 1000000 /dev/urandom >piece
"$U" write scattered.vhd --offset $((1234567890123 / part)) --force <piece || fail "write"
"$U" read scattered.vhd -R $((1234567890123 / part)) -c 1000000 | cmp - piece || fail "read what was written"

# 64 images, each of 2040 GiB, over the full one
bound 1 0 snapshot -n d1.vhd -p full.vhd -e
for i in $(seq 2 63); do
	"$U" snapshot -n d"$i".vhd -p d$((i - 1)).vhd -e || fail "snapshot $i"
	echo "$i" | "$U" write d"$i".vhd --offset $((i << 30)) || fail "write $i"
done
bound 1 0 snapshot -n d64.vhd -p d63.vhd -e
bound 4 0 query -n d64.vhd -d
[ "$(cat out)" = "chain depth: 65" ] || fail "depth: $(cat out)"
bound 10 0 info d64.vhd
bound 20 0 read d64.vhd -R 20G -c 1M
[ "$(head -c 2 out)" = 20 ] || fail "what is read through 64 layers"
bound 30 0 check -p d64.vhd
bound 20 0 coalesce d63.vhd
"$U" read d62.vhd -R 63G -c 2 | grep -qx 63 || fail "coalesced"

# small blocks: their table is paged, not held
python3 - "$root/fixtures" $part <<'PY' || fail "make"
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
from vhd import *
size, block = (16 << 30) // int(sys.argv[2]), 4096
s = Sparse(size, block)
n, first = s.entries, len(s.raw) // 512 + 7
with open("small.vhd", "wb") as f:
    s.bat = []
    whole = s.close()
    f.write(whole[:1536])
    for i in range(0, n, 65536):
        f.write(struct.pack(">65536I", *range(first + 9 * i, first + 9 * (i + 65536), 9)))
    f.seek((first + 9 * n) * 512)
    f.write(whole[-512:])
PY
bound 2 0 query -n small.vhd -v -s -a
bound 4 0 check small.vhd
bound 30 0 check small.vhd -s # reads every bitmap
bound 4 0 info small.vhd
bound 4 0 read small.vhd -R $((13312 / part))M -c 1M
python3 - $part <<'PY' || fail "turn the table round"
import array, sys
with open("small.vhd", "r+b") as f: # sound, but nothing ascends
    f.seek(1536)
    table = array.array("I", f.read((4 << 22) // int(sys.argv[1])))
    f.seek(1536)
    f.write(table[::-1].tobytes())
PY
bound 4 0 check small.vhd
[ "$(cat out)" = "small.vhd is valid" ] || fail "check: $(head -3 out)"
bound 4 0 read small.vhd -R $((13312 / part))M -c 1M
"$U" write small.vhd --offset $((14000000000 / part)) <piece || fail "write to small blocks"
bound 10 0 snapshot -n small-child.vhd -p small.vhd
bound 10 0 read small-child.vhd -R $((14000000000 / part)) -c 1000000
cmp out piece || fail "read through small blocks"

# a table of 256 MiB is made of a bit a block, whichever way the disk goes
truncate -s $((256 / part))G sparse.raw
for i in $(seq 0 7); do
	dd if=piece of=sparse.raw bs=1M conv=notrunc oflag=seek_bytes seek=$((i * 34000000000 / part / 512 * 512)) status=none
done
bound 20 0 convert sparse.raw made.vhd --block-size 4K
bound 20 0 compare made.vhd sparse.raw
bound 10 0 check made.vhd
[ "$(cat out)" = "made.vhd is valid" ] || fail "check: $(head -3 out)"
bound 30 0 convert made.vhd again.vhd --block-size 8K
bound 20 0 compare again.vhd sparse.raw
rm again.vhd
bound 30 0 convert made.vhd - --to dynamic --block-size 4K
cmp -s <(tail -c +1537 out | head -c $((100000000 / part))) <(tail -c +1537 made.vhd | head -c $((100000000 / part))) ||
	fail "through a pipe another table"
bound 20 0 snapshot -n made-child.vhd -p made.vhd
"$U" write made-child.vhd --offset $((200 / part))G <piece || fail "write"
bound 20 0 coalesce made-child.vhd
bound 20 0 read made.vhd -R $((200 / part))G -c 1000000
cmp out piece || fail "coalesced"
exit 0
