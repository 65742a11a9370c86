#!/usr/bin/env bash
# The NBD server with the clients people use: nbdinfo, nbdsh, nbdcopy, qemu-io, qemu-img, fio
# shellcheck source=tests/serve/nbd.inc
. "$(dirname "$0")/nbd.inc"
need nbdinfo nbdsh nbdcopy qemu-io qemu-img fio python3
/usr/bin/python3 -c "import nbd" 2>/dev/null || skip "python3-libnbd is not installed"

vhd-util create -n base.vhd -s 64 || fail "create"
vhd-util snapshot -n top.vhd -p base.vhd || fail "snapshot"
vhd-util create -n second.vhd -s 8 || fail "create"
serve s --name disk vhd:top.vhd --name second vhd:second.vhd
uri=$(served s disk)

# ── what it says of itself ──
timeout 20 nbdinfo --json --list "$(served s "")" >list.json || fail "nbdinfo --list"
/usr/bin/python3 - <<'P' || fail "nbdinfo: $(cat list.json)"
import json
e = json.load(open("list.json"))["exports"]
assert [x["export-name"] for x in e] == ["disk", "second"], e
d = e[0]
assert d["export-size"] == 64 << 20 and e[1]["export-size"] == 8 << 20
assert not d["is_read_only"] and d["can_multi_conn"] and d["can_flush"] and d["can_fua"]
assert d["can_trim"] and d["can_zero"] and d["can_fast_zero"] and d["can_df"] and d["can_cache"]
assert (d["block_size_minimum"], d["block_size_preferred"], d["block_size_maximum"]) == (1, 4096, 32 << 20)
assert d["contexts"] == ["base:allocation", "qemu:allocation-depth", "vhd:depth"], d
P
# without a name: the first
check_out $((64 << 20)) timeout 20 nbdinfo --size "$(served s "")"
check_status 1 timeout 20 nbdinfo --size "$(served s third)"
check_err "third\|No such\|unknown\|server replied"

# ── every command, any alignment, wrong ones ──
cat >shell.py <<'P'
import errno
size = h.get_size()
h.pwrite(b"abc", 513)
h.pwrite(b"X" * 70000, 1000001, nbd.CMD_FLAG_FUA)
h.flush()
assert h.pread(9, 510) == b"\0\0\0abc\0\0\0"
assert h.pread(70002, 1000000) == b"\0" + b"X" * 70000 + b"\0"
h.zero(30000, 1000011, nbd.CMD_FLAG_NO_HOLE)
h.zero(30000, 1000012)
assert h.pread(30012, 1000001) == b"X" * 10 + bytes(30001) + b"X"
h.pwrite(b"t" * (4 << 20), 8 << 20)
h.trim(4 << 20, 8 << 20)
h.cache(1 << 20, 0)
try:
    h.zero(4 << 20, 8 << 20, nbd.CMD_FLAG_FAST_ZERO)
    assert h.pread(512, 8 << 20) == bytes(512)
except nbd.Error as e:
    assert e.errnum == errno.ENOTSUP, e
assert len(h.pread(32 << 20, 0)) == 32 << 20
chunks = []
h.pread_structured(65536, 12345, lambda data, at, status, err: chunks.append((at, len(data))), nbd.CMD_FLAG_DF)
assert chunks == [(12345, 65536)], chunks

h.set_strict_mode(0)
def refused(want, f, *args):
    try:
        f(*args)
    except nbd.Error as e:
        assert e.errnum == want, (e, want)
    else:
        assert False, args
refused(errno.EINVAL, h.pread, 1, size)
refused(errno.ENOSPC, h.pwrite, b"x", size)
refused(errno.ENOSPC, h.zero, 512, size - 1)
refused(errno.EINVAL, h.trim, 512, size - 1)
refused(errno.EINVAL, h.cache, 512, size)
refused(errno.EINVAL, h.pread, 512, 0, nbd.CMD_FLAG_NO_HOLE)
refused(errno.EINVAL, h.pwrite, b"x" * 512, 0, 0x8000)
assert h.pread(3, 513) == b"abc"
P
shell "$uri" "$(cat shell.py)" 2>err || fail "nbdsh: $(cat err)"
cat >options.py <<'P'
h.connect_uri(uri)
names = []
h.opt_list(lambda name, about: names.append(name))
assert names == ["disk", "second"], names
h.set_export_name("nothing")
try:
    h.opt_go()
    assert False
except nbd.Error:
    pass
h.set_export_name("second")
h.opt_info()
assert h.get_size() == 8 << 20
h.add_meta_context("base:allocation")
h.add_meta_context("x-other:thing")
h.opt_go()
assert h.can_meta_context("base:allocation") and not h.can_meta_context("x-other:thing")
P
PATH=/usr/bin:$PATH timeout 60 nbdsh --opt-mode -c "uri = '$uri'" -c "$(cat options.py)" 2>err || fail "nbdsh --opt-mode: $(cat err)"

# ── allocation and depth: one block in each layer ──
vhd-util create -n b.vhd -s 16 || fail "create"
vhd-util snapshot -n t.vhd -p b.vhd || fail "snapshot"
serve m --name base vhd:b.vhd
timeout 20 qemu-io -f raw -c 'write -P 1 4M 64k' "$(served m base)" >/dev/null || fail "write to the parent"
unserve m
serve m --name leaf vhd:t.vhd
timeout 20 qemu-io -f raw -c 'write -P 2 8M 64k' "$(served m leaf)" >/dev/null || fail "write to the leaf"
leaf=$(served m leaf)
# as nbdinfo prints extents: offset, length, value
map() { timeout 20 nbdinfo --map="$1" "$leaf" | awk '{ print $1, $2, $3 }'; }
# (a block of an image without a parent is whole)
want="0 4194304 0
4194304 2097152 2
6291456 2097152 0
8388608 65536 1
8454144 8323072 0"
for context in qemu:allocation-depth vhd:depth; do
	[ "$(map $context)" = "$want" ] || fail "$context: $(map $context)"
done
want="0 4194304 3
4194304 2097152 0
6291456 2097152 3
8388608 65536 0
8454144 8323072 3"
[ "$(map base:allocation)" = "$want" ] || fail "base:allocation: $(map base:allocation)"
timeout 20 qemu-img map --output=json --image-opts "driver=nbd,server.type=unix,server.path=$T/m,export=leaf,x-dirty-bitmap=qemu:allocation-depth" >map.json || fail "qemu-img map"
/usr/bin/python3 - <<'P' || fail "qemu-img map: $(cat map.json)"
import json
top = [(e["start"], e["length"]) for e in json.load(open("map.json")) if not e["data"]]
assert top == [(8 << 20, 65536)], top
P
unserve m

# ── copies over several connections, there and back ──
/usr/bin/python3 -c "import random, sys
r = random.Random(5)
f = open('source.raw', 'wb')
f.truncate(64 << 20)
for i in range(40):
    f.seek(r.randrange(0, (64 << 20) - 300000))
    f.write(r.randbytes(r.randrange(1, 300000)))"
timeout 100 nbdcopy --connections=4 --requests=64 source.raw "$uri" || fail "nbdcopy there"
timeout 100 nbdcopy --connections=4 --requests=64 "$uri" back.raw || fail "nbdcopy back"
cmp source.raw back.raw || fail "nbdcopy: not the same"
timeout 100 qemu-img compare -f raw -F raw source.raw "$uri" >/dev/null || fail "qemu-img compare"
truncate -s 64M empty.raw
timeout 100 qemu-img convert -n -W -m 16 -f raw -O raw empty.raw "$uri" || fail "qemu-img convert"
timeout 100 qemu-img compare -f raw -F raw empty.raw "$uri" >/dev/null || fail "zeros are not zeros"
io 'write -P 5 0 64k' 'write -z -u 0 32k' 'read -P 0 0 32k' 'read -P 5 32k 32k' 'discard 0 1M' 'flush' \
	'write -P 9 12345 777' 'read -P 9 12345 777' 'aio_write -P 3 1M 4M' 'aio_read 1M 4M' 'aio_flush' 'read -P 3 1M 4M'

# ── verified load on two connections at once ──
fio_job() {
	timeout 100 fio --name="v$1" --ioengine=nbd --uri="$uri" --rw=randrw --bsrange="$2" --iodepth=32 --offset="$1m" --size=16m \
		--verify=crc32c --verify_fatal=1 --randrepeat=0 --fsync=32 >"fio$1" 2>&1
}
fio_job 0 4k-4k & a=$!
fio_job 32 512-64k || fail "fio: $(cat fio32)"
wait $a || fail "fio: $(cat fio0)"
unserve s
check_status 0 vhd-util check -n top.vhd

# ── read-only, and over TCP ──
serve r --read-only --name disk vhd:top.vhd --nbd tcp:127.0.0.1:0
uri=$(served r disk)
timeout 20 nbdinfo --is read-only "$uri" || fail "not read-only"
timeout 20 qemu-io -r -f raw -c 'read 0 1M' "$uri" >/dev/null || fail "read"
shell "$uri" "$(cat <<'P'
import errno
h.set_strict_mode(0)
for f in (lambda: h.pwrite(b"x" * 512, 0), lambda: h.zero(512, 0), lambda: h.trim(512, 0)):
    try:
        f()
        assert False
    except nbd.Error as e:
        assert e.errnum == errno.EPERM, e
h.flush()
P
)" 2>err || fail "read-only: $(cat err)"
unserve r
exit 0
