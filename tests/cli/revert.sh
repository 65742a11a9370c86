#!/bin/bash
# revert: journals of the tools that came before, sound, damaged and hostile; by hand and by itself
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
need python3
cd "$T" || exit 1

# interrupt.py IMAGE JOURNAL HOW: what the predecessor leaves when it is killed in a resize: the
# journal, both footers poisoned, metadata and a block overwritten, the file longer.  HOW: a change
# to the journal that must be refused, or "good".
cat >interrupt.py <<'PY'
import os, struct, sys

image, journal, how = sys.argv[1:4]
b = bytearray(open(image, "rb").read())
end = len(b) - 512
u32 = lambda at: struct.unpack(">I", b[at:at+4])[0]
u64 = lambda at: struct.unpack(">Q", b[at:at+8])[0]
header = u64(16)
table, entries, block = u64(header + 16), u32(header + 28), u32(header + 32)
stride = block + max(512, block // 4096)
size = (entries * 4 + 511) // 512 * 512
first = min(e for e in (u32(table + 4 * i) for i in range(entries)) if e != 0xffffffff)
meta = [(1, end, 512), (2, 0, 512), (3, header, 1024), (5, table, size)]
if b[28:31] == b"tap":
    meta += [(6, table + size, 512), (7, u64(table + size + 8), 512)]
for i in range(8):
    at = header + 576 + 24 * i
    if u32(at):
        meta += [(4, u64(at + 16), 512)]
data = [(8, first * 512, stride)]

def entry(kind, at, n):
    old = bytes(b[at:at+n])
    place = at
    if how == "behind" and kind == 5: place = end + 512
    if how == "unaligned" and kind == 5: place = at + 1
    if how == "overfooter" and kind == 8: place = 0
    if how == "elsewhere" and kind == 3: place = at + 512
    if how == "table" and kind == 5: place = at + 512
    if how == "otherfooter" and kind == 1: old = bytes(512)
    if how == "kind" and kind == 6: kind = 9
    h = struct.pack(">QIIQII", 0xaaaa12344321aaaa, kind, len(old), place, 0, 0)
    total = ~(sum(h) + sum(old)) & 0xffffffff
    if how == "checksum" and kind == 8: total ^= 1
    return h[:24] + struct.pack(">I", total) + h[28:] + old

parts = b"".join(entry(*e) for e in meta)
blocks = b"".join(entry(*e) for e in data)
ident = bytes(b[68:84]) if how != "id" else bytes(16)
nmeta, ndata = len(meta), len(data)
if how == "count": ndata = 0xffffffff
if how == "more": ndata += 1
mo, do = 512, 512 + len(parts)
if how == "offset": do = 1 << 63
if how == "noheader": meta = []
if how == "empty": nmeta = ndata = 0
j = struct.pack(">8s16sQIIQQ", b"vjournal", ident, end, ndata, nmeta, do, mo)
j += struct.pack("<Q", 512 + len(parts) + len(blocks)) + bytes(448)
j = j[:512] + parts + blocks
if how == "short": j = j[:len(j) - 4096]
open(journal, "wb").write(j)

def footer(poison):
    f = bytearray(b[end:end+512])
    f[0:8] = b"v_poison" if poison else b"conectix"
    f[64:68] = bytes(4)
    f[64:68] = struct.pack(">I", ~sum(f) & 0xffffffff)
    return bytes(f)

old = bytes(b)
b[table:table + size] = os.urandom(size)
b[header:header + 1024] = os.urandom(1024)
b[first * 512:first * 512 + stride] = os.urandom(stride)
b[0:512] = footer(True)
b[end:end+512] = os.urandom(512)
b += os.urandom(3 * stride) + footer(how != "half")
open(image, "wb").write(b)
PY

"$U" create -n d.vhd -s 20 -S 4000 || fail create # the predecessor could not undo images made with -S
"$U" create -n w.vhd -s 20 || fail create
head -c 9000000 /dev/urandom >some
for f in d w; do
	"$U" write $f.vhd --offset 3M <some || fail write
done
"$U" snapshot -n c.vhd -p w.vhd && head -c 3000000 some | "$U" write c.vhd --offset 1000 || fail child

for f in d c; do
	cp $f.vhd x.vhd
	python3 interrupt.py x.vhd jrn good || fail "make"
	# readers and writers are told what to do; looking is allowed
	check_status 16 "$U" convert x.vhd x.raw
	check_err 'vhd-util revert'
	check_status 16 "$U" set -n x.vhd -f hidden -v 1
	check_status 16 "$U" resize x.vhd --size 60M
	check_status 0 "$U" revert -n x.vhd -j jrn --dry-run
	check_status 0 "$U" revert -n x.vhd -j jrn --dry-run --json
	cp .out shown.dry
	[ -e jrn ] || fail "a dry run removed the journal"
	check_status 16 "$U" convert x.vhd x.raw
	check_out '' "$U" revert -n x.vhd -j jrn
	cmp x.vhd $f.vhd || fail "not as it was"
	[ ! -e jrn ] || fail "the journal stays"
	# one footer was still to be poisoned, or not any more
	python3 interrupt.py x.vhd jrn half || fail "make"
	check_status 16 "$U" convert x.vhd x.raw
	check_status 0 "$U" revert -n x.vhd -j jrn --json
	cp .out shown.done
	cmp x.vhd $f.vhd || fail "not as it was"
	# at the default place whatever writes does it
	python3 interrupt.py x.vhd .x.vhd.journal good || fail "make"
	check_status 16 "$U" convert x.vhd x.raw
	check_status 0 "$U" set -n x.vhd -f hidden -v 1
	check_status 0 "$U" set -n x.vhd -f hidden -v 0
	cmp x.vhd $f.vhd || fail "not as it was"
	[ ! -e .x.vhd.journal ] || fail "the journal stays"
	python3 interrupt.py x.vhd .x.vhd.journal good || fail "make"
	check_status 0 "$U" revert x.vhd
	cmp x.vhd $f.vhd || fail "not as it was"
	python3 interrupt.py x.vhd .x.vhd.journal good || fail "make"
	check_status 0 "$U" modify -n x.vhd -s "$(stat -c %s $f.vhd)"
	cmp x.vhd $f.vhd || fail "not as it was"
	[ ! -e .x.vhd.journal ] || fail "the journal stays"
done
check_schema shown.dry shown.done

# what is damaged, of another image, or hostile is refused, and nothing is written
for how in id behind unaligned overfooter elsewhere table otherfooter checksum kind count more offset empty short; do
	cp d.vhd x.vhd
	python3 interrupt.py x.vhd jrn $how || fail "make"
	cp x.vhd before
	check_status 117 "$U" revert -n x.vhd -j jrn
	cmp x.vhd before || fail "$how: it was written"
	[ -e jrn ] || fail "$how: the journal is gone"
	check_status 16 "$U" convert x.vhd x.raw
done
# the first bytes of any entry
cp d.vhd x.vhd
python3 interrupt.py x.vhd good good && cp x.vhd before
for at in 512 520 524 528 536 600 1060 5000; do
	cp good jrn
	printf '\377' | dd of=jrn bs=1 seek=$at conv=notrunc status=none
	cmp -s good jrn && printf '\001' | dd of=jrn bs=1 seek=$at conv=notrunc status=none
	check_status 117 "$U" revert -n x.vhd -j jrn
	cmp x.vhd before || fail "byte $at: it was written"
done
rm jrn

# an image that needs nothing: the journal goes, the image stays
cp d.vhd x.vhd
: >jrn
check_status 0 "$U" revert -n x.vhd -j jrn
head -c 1000000 /dev/zero >jrn
check_status 0 "$U" revert -n x.vhd -j jrn --dry-run
grep -q 'nothing to undo' .out || fail "a dry run says $(cat .out)"
check_status 0 "$U" revert -n x.vhd -j jrn
cp good jrn
check_status 0 "$U" revert -n x.vhd -j jrn
cmp x.vhd d.vhd || fail "it changed"
[ ! -e jrn ] || fail "the journal stays"
check_status 2 "$U" revert -n x.vhd -j jrn
check_status 2 "$U" revert -n x.vhd
check_status 2 "$U" revert -n no.vhd -j good
check_status 22 "$U" revert -j good

# our own kind: what was enlarged and not used since becomes as small as it was
cp d.vhd x.vhd
mkdir full
for try in 1 2 3 4 5 6 7 8 9 10; do
	cp d.vhd x.vhd
	"$U" resize x.vhd --size 9000M -j jrn &
	pid=$!
	sleep 0.00$try
	kill -9 $pid 2>/dev/null
	wait $pid 2>/dev/null
	[ -e jrn ] || continue
	check_status 0 "$U" revert -n x.vhd -j jrn
	check_out 20 "$U" query -n x.vhd -v
	check_status 0 "$U" compare x.vhd d.vhd
done

# a note of another image, a fixed one: what is no image is not cut
"$U" create -n fixed.vhd -s 2 -r
cat >note.py <<'PY'
import struct, sys
b = open("fixed.vhd", "rb").read()
raw = bytearray(1536)
raw[:12] = struct.pack(">8sI", b"vhdsizes", 1)
raw[16:48] = b[-512:][68:84] + struct.pack(">QQ", 8 << 20, len(b) - 512)
raw[512:1024] = b[-512:]
raw[12:16] = struct.pack(">I", ~sum(raw) & 0xffffffff)
open("note", "wb").write(raw)
PY
python3 note.py
cp note jrn
head -c 5000000 /dev/urandom >precious
cp precious same
check_status 117 "$U" revert -n precious -j jrn
cmp precious same || fail "another file was cut"
[ -e jrn ] || fail "the journal is gone"
head -c 300 /dev/urandom >precious
check_status 117 "$U" revert -n precious -j jrn
# its own: the file became longer, and has no footer at its end yet
cp fixed.vhd long.vhd
truncate -s 5M long.vhd
check_status 0 "$U" revert -n long.vhd -j jrn
cmp long.vhd fixed.vhd || fail "the fixed image is not what it was"
# the note beside it: whoever looks names it, repair does it
cp fixed.vhd long.vhd
truncate -s 5M long.vhd
cp note .long.vhd.journal
cp long.vhd before
check_status 16 "$U" check long.vhd
grep -q "vhd-util revert -n 'long.vhd'" .out || fail "check says $(cat .out)"
check_status 16 "$U" salvage long.vhd saved.vhd
check_err "vhd-util revert -n 'long.vhd'"
check_status 16 "$U" salvage long.vhd saved.vhd --guess
ln -s long.vhd link.vhd
check_status 16 "$U" repair link.vhd --dry-run
check_err "vhd-util revert -n 'link.vhd'"
cmp long.vhd before || fail "a dry run changed it"
check_status 0 "$U" repair link.vhd
cmp long.vhd fixed.vhd || fail "repair: the fixed image is not what it was"
[ ! -e .long.vhd.journal ] || fail "the journal stays"

# an image given as a journal stays
cp d.vhd x.vhd
cp d.vhd y.vhd
check_status 117 "$U" revert -n x.vhd -j y.vhd
cmp d.vhd y.vhd || fail "an image was removed as a journal"

# the note beside an image is not written through a link
echo mine >victim
cp fixed.vhd z.vhd
ln -s victim .z.vhd.journal
check_status 40 "$U" resize z.vhd --size 8M
[ "$(cat victim)" = mine ] || fail "written through a link"
cmp z.vhd fixed.vhd || fail "resized without a note"

# zeros of the growth itself, over what a larger parent has there, are nobody's data: killed at each sync
need strace
"$U" create -n wide.vhd -s 20 && head -c 20M /dev/urandom | "$U" write wide.vhd --offset 0 || fail make
"$U" snapshot -n narrow.vhd -p wide.vhd && "$U" resize narrow.vhd --size 5M --cut-data || fail make
head -c 3000000 some | "$U" write narrow.vhd --offset 1M || fail make
"$U" convert narrow.vhd narrow.raw || fail convert
for n in $(seq 30); do
	cp narrow.vhd x.vhd
	ASAN_OPTIONS=detect_leaks=0 strace -f -o /dev/null -e trace=fsync,fdatasync \
		-e inject=fsync,fdatasync:signal=KILL:when="$n" "$U" resize x.vhd --size 17M -j jrn 2>/dev/null && break
	[ -e jrn ] || continue
	check_status 0 "$U" revert -n x.vhd -j jrn --dry-run
	check_status 0 "$U" revert -n x.vhd -j jrn
	"$U" info x.vhd --json | grep -q '"virtual_size": 5242880' || fail "sync $n: the size"
	check_status 0 "$U" compare x.vhd narrow.raw
	check_status 0 "$U" check x.vhd
	grep -q 'past the end of the disk' .out && fail "sync $n: $(cat .out)"
	last=$n
done
[ "$n" -gt 5 ] && [ "$n" -lt 30 ] || fail "$n syncs"
# what was written there since is somebody's
cp narrow.vhd x.vhd
ASAN_OPTIONS=detect_leaks=0 strace -f -o /dev/null -e trace=fsync,fdatasync \
	-e inject=fsync,fdatasync:signal=KILL:when="$last" "$U" resize x.vhd --size 17M -j jrn 2>/dev/null
[ -e jrn ] || fail "no journal after sync $last"
cp jrn kept
check_status 0 "$U" resize x.vhd --size 17M
printf data | "$U" write x.vhd --offset 16M || fail write
cp kept jrn && cp x.vhd before
check_status 117 "$U" revert -n x.vhd -j jrn
check_err 'data behind the old end'
cmp x.vhd before || fail "refused, but changed"
rm jrn
exit 0
