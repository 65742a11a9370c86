#!/usr/bin/env bash
# nbd-requests - a chain of three: its map, and status from odd places; requests at every edge, with every
# flag, with structured replies and without; several exports by odd names, one of an odd length
# shellcheck source=tests/serve/nbd.inc
. "$(dirname "$0")/nbd.inc"
need nbdinfo qemu-io qemu-img python3
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip 'python3-libnbd is not installed'
py() { timeout 60 /usr/bin/python3 "$@"; }

first=$(served s "")
uri=$first

# a chain: blocks 0 and 1 at the bottom, 1 and 2 in the middle, 2 and the end of 3 at the top
vhd-util create -n base.vhd -s 64 || fail "create"
serve s vhd:base.vhd
io 'write -P 66 0 4M' flush
unserve s
vhd-util snapshot -n mid.vhd -p base.vhd || fail "snapshot"
serve s vhd:mid.vhd
io 'write -P 77 2M 4M' flush
unserve s
vhd-util snapshot -n top.vhd -p mid.vhd || fail "snapshot"

cat >map.want <<'WANT'
0 2097152 3
2097152 2097152 2
4194304 2097152 1
6291456 2031616 0
8323072 65536 1
8388608 58720256 0
WANT
serve s vhd:top.vhd
[ "$(stat -c %a s)" = 600 ] || fail "mode of the socket"
io 'write -P 84 4M 2M' 'write -P 84 8128k 64k' flush
for context in qemu:allocation-depth vhd:depth; do
	nbdinfo --map=$context "$first" | awk '{ print $1, $2, $3 }' >map
	diff map map.want || fail "map of $context"
done
nbdinfo --map "$first" | awk '{ print $1, $2, $3 }' >map
cat >map.alloc <<'WANT'
0 6291456 0
6291456 2031616 3
8323072 65536 0
8388608 58720256 3
WANT
diff map map.alloc || fail "base:allocation"
# what the map says is what one reads
qemu-img map --output=json -f raw "$first" >map.json || fail "qemu-img map"
py - map.json map.alloc <<'PY' || fail "qemu-img sees another map"
import json, sys
said = []
for e in json.load(open(sys.argv[1])):
    flags = 0 if e["data"] else 3
    if said and said[-1][2] == flags: said[-1][1] += e["length"]
    else: said.append([e["start"], e["length"], flags])
want = [[int(x) for x in l.split()] for l in open(sys.argv[2])]
assert said == want, (said, want)
PY
[ "$(nbdinfo --size "$first")" = $((64 << 20)) ] || fail "size"
cat >requests.py <<'PY'
import errno, nbd, sys
uri, read_only = sys.argv[1], len(sys.argv) > 2
h = nbd.NBD()
h.add_meta_context("base:allocation")
h.add_meta_context("vhd:depth")
h.connect_uri(uri)
h.set_strict_mode(0)
size = h.get_size()
def fails(want, f, *args):
    try: f(*args)
    except nbd.Error as e:
        assert e.errnum == want, (f, args, e.errnum)
    else: raise AssertionError(("no error", f, args))
E = errno
changes = [(h.pwrite, b"x" * 512, 0), (h.trim, 512, 0), (h.zero, 512, 0)]
if read_only:
    assert h.is_read_only()
    for f in changes: fails(E.EPERM, *f)
    fails(E.EPERM, h.pwrite, b"x" * 512, size)
    h.pread(512, 0); h.flush(); h.cache(512, 0)
    sys.exit(0)
# beyond the end, and on to it
for n, at in ((1, size), (512, size), (513, size - 512), (512, 1 << 62), (2 << 20, size - (1 << 20))):
    fails(E.ENOSPC, h.pwrite, b"x" * n, at)
    fails(E.ENOSPC, h.zero, n, at)
    fails(E.EINVAL, h.pread, n, at)
    fails(E.EINVAL, h.trim, n, at)
    fails(E.EINVAL, h.cache, n, at)
    fails(E.EINVAL, h.block_status, n, at, lambda *a: 0)
h.pwrite(b"end", size - 3)
assert h.pread(4, size - 4) == b"\0end"
# flags where they do not belong
fails(E.EINVAL, h.pread, 512, 0, nbd.CMD_FLAG_NO_HOLE)
fails(E.EINVAL, h.pwrite, b"x" * 512, 0, nbd.CMD_FLAG_DF)
fails(E.EINVAL, h.trim, 512, 0, nbd.CMD_FLAG_FAST_ZERO)
fails(E.EINVAL, h.zero, 512, 0, nbd.CMD_FLAG_REQ_ONE)
fails(E.EINVAL, h.flush, nbd.CMD_FLAG_NO_HOLE)
fails(E.EINVAL, h.pread, 512, 0, 0x8000)
fails(E.EINVAL, h.block_status, 0, 0, lambda *a: 0)
# flags where they do
at = 20 << 20
h.pwrite(b"f" * 3000, at + 77, nbd.CMD_FLAG_FUA)
assert h.pread(3002, at + 76, nbd.CMD_FLAG_DF) == b"\0" + b"f" * 3000 + b"\0"
h.trim(0, 0); h.zero(0, 0); h.pwrite(b"", 0); h.cache(0, 0)
h.trim(512, at, nbd.CMD_FLAG_FUA); h.flush(nbd.CMD_FLAG_FUA); h.pread(512, 0, nbd.CMD_FLAG_FUA)
h.cache(size, 0)
h.pwrite(b"z" * 8192, at)
h.zero(5000, at + 3, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
assert h.pread(8192, at) == b"zzz" + bytes(5000) + b"z" * (8192 - 5003)
# told to be fast: done, or refused with nothing changed
try: h.zero(4096, at + 4096, nbd.CMD_FLAG_FAST_ZERO)
except nbd.Error as e:
    assert e.errnum == E.ENOTSUP
    assert h.pread(4096, at + 4096) == bytes(907) + b"z" * 3189
else: assert h.pread(4096, at + 4096) == bytes(4096)
# a read of holes and data, in pieces and in one
chunks = []
def chunk(data, offset, status, error): chunks.append((offset, bytes(data)))
h.pread_structured(6 << 20, 6 << 20, chunk)
h.pread_structured(1 << 20, 30 << 20, chunk, nbd.CMD_FLAG_DF)
for offset, data in chunks: assert h.pread(len(data), offset) == data
# status from odd places; one extent only; both contexts
seen = {}
def extents(context, offset, entries, error): seen[context] = (offset, list(entries))
h.block_status(size - 1, 1, extents)
assert set(seen) == {"base:allocation", "vhd:depth"}
for offset, entries in seen.values():
    assert offset == 1 and all(entries[::2]) and sum(entries[::2]) <= size - 1
    assert entries[1::2] != entries[3::2] or len(entries) == 2
assert seen["vhd:depth"][1][:4] == [(2 << 20) - 1, 3, 2 << 20, 2]
h.block_status(5, (2 << 20) - 3, extents, nbd.CMD_FLAG_REQ_ONE)
for offset, entries in seen.values(): assert len(entries) == 2 and 0 < entries[0] <= 5
assert seen["vhd:depth"][1] == [3, 3]
h.shutdown()

# without structured replies
h = nbd.NBD()
h.set_request_structured_replies(False)
h.connect_uri(uri)
h.set_strict_mode(0)
assert not h.can_df() and h.pread(3, size - 3) == b"end"
fails(E.EINVAL, h.pread, 512, 0, nbd.CMD_FLAG_DF)
fails(E.EINVAL, h.pread, 512, size)
fails(E.ENOSPC, h.pwrite, b"x", size)
assert h.pread(2 << 20, 40 << 20) == bytes(2 << 20)
h.shutdown()
PY
py requests.py "$first" || fail "requests"

cat >options.py <<'PY'
import nbd, sys
uri, names = sys.argv[1], sys.argv[2].split(",")
def new(structured=True):
    h = nbd.NBD(); h.set_opt_mode(True); h.set_request_structured_replies(structured)
    h.connect_uri(uri); return h
def fails(f, *args):
    try: f(*args)
    except nbd.Error: return
    raise AssertionError(("no error", f, args))
h = new()
got = []
assert h.opt_list(lambda name, about: got.append(name) or 0) == len(names) and got == names, got
contexts = []
for query, want in (([], 3), (["base:"], 1), (["qemu:"], 1), (["vhd:depth"], 1), (["vhd:other"], 0), (["x-other:"], 0)):
    contexts.clear()
    h.clear_meta_contexts()
    for q in query: h.add_meta_context(q)
    h.set_export_name(names[0])
    assert h.opt_list_meta_context(lambda name: contexts.append(name) or 0) == want == len(contexts), (query, contexts)
h.clear_meta_contexts()
h.add_meta_context("base:allocation")
h.set_export_name("no such")
fails(h.opt_info)
fails(h.opt_go)
for name in names:
    h.set_export_name(name)
    h.opt_info()
    assert h.can_meta_context("base:allocation") and not h.can_meta_context("vhd:depth")
size = h.get_size()
h.opt_go()
assert h.get_size() == size and h.can_meta_context("base:allocation")
h.pread(512, 0)
h.shutdown()
h = new(False)
fails(h.opt_list_meta_context, lambda name: 0)
h.set_export_name(names[-1])
h.opt_go()
assert not h.can_meta_context("base:allocation")
h.shutdown()
h = new()
h.opt_abort()
# the empty name is that of the first
h = nbd.NBD(); h.set_full_info(True); h.connect_uri(uri)
assert h.get_canonical_export_name() == names[0], h.get_canonical_export_name()
h.shutdown()
PY
py options.py "$first" top || fail "options"
unserve s
[ "$(vhd-util check top.vhd)" = "top.vhd is valid" ] || fail "check: $(vhd-util check top.vhd)"

# several, each by its name
vhd-util create -n other.vhd -s 32 && truncate -s 3333333 raw.img || fail "create"
serve s --name 'odd/näme %' vhd:top.vhd vhd:other.vhd --name img raw:raw.img
py options.py "$first" 'odd/näme %,other,img' || fail "options of several"
[ "$(nbdinfo --size "$(served s odd/n%C3%A4me%20%25)")" = $((64 << 20)) ] || fail "the odd name"
[ "$(nbdinfo --size "$(served s other)")" = $((32 << 20)) ] || fail "size of the second"
[ "$(nbdinfo --list "$first" | grep -c '^export=')" = 3 ] || fail "list of three"
check_status 1 nbdinfo --size "$(served s oth)"
check_status 1 nbdinfo --size "$(served s otherr)"
uri=$(served s other)
io 'write -P 9 0 1M'
uri=$first
io 'read -P 66 0 4k'
uri=$(served s other)
io 'read -P 9 0 1M'
# of a length that is no whole sector: the rest of the last one reads as zeros
[ "$(nbdinfo --size "$(served s img)")" = 3333632 ] || fail "size of the raw one"
uri=$(served s img)
io 'read -P 0 3333000 632' 'write -P 8 3333300 33' 'read -P 8 3333300 33' 'read -P 0 3333333 299'
unserve s
check_status 17 tapdisk vhd:top.vhd --name top vhd:other.vhd --nbd "unix:$T/s"

# to be read only
serve s --read-only vhd:top.vhd
nbdinfo --is read-only "$first" || fail "not read-only"
nbdinfo --can trim "$first" && fail "read-only, but trims"
py requests.py "$first" ro || fail "requests, read-only"
timeout 20 qemu-io -r -f raw -c 'read -P 66 0 4k' "$first" | grep -q 'read 4096/4096' || fail "qemu-io -r"
unserve s
exit 0
