#!/usr/bin/env bash
# nbd-tcp - over TCP, IPv4 and IPv6, beside a Unix socket: many connections that see each other's writes;
# addresses in use or not to be had; clients that come, go and stay silent
# shellcheck source=tests/serve/nbd.inc
. "$(dirname "$0")/nbd.inc"
need nbdinfo nbdcopy qemu-io python3
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip 'python3-libnbd is not installed'
py() { timeout 60 /usr/bin/python3 "$@"; }
vhd-util create -n d.vhd -s 64 || fail "create"
free_port() { py -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free_port)
serve s --name d vhd:d.vhd --nbd "tcp:127.0.0.1:$port"
unix=$(served s d)
U=nbd://127.0.0.1:$port
[ "$(nbdinfo --size "$U")" = $((64 << 20)) ] || fail "size over TCP"
uri=$U
io 'write -P 1 0 1M' 'write -P 2 1M 1' 'read -P 1 0 1M' flush
uri=$unix
io 'read -P 1 0 1M' 'read -P 2 1M 1'
check_status 1 nbdinfo "nbd://127.0.0.2:$port"
nbdinfo --can multi-conn "$U" || fail "no multi-conn"

cat >many.py <<'PY'
import nbd, os, socket, struct, sys, time
tcp, unix, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
def new(uri):
    h = nbd.NBD(); h.connect_uri(uri); return h
hs = [new(tcp if k % 2 else unix) for k in range(24)]
# what is answered on one is seen on all, and a flush on any covers it
for k, h in enumerate(hs):
    h.pwrite(bytes([k + 1]) * 4096, k * 4096)
hs[0].flush()
for h in hs:
    data = h.pread(24 * 4096, 0)
    assert all(data[k * 4096:(k + 1) * 4096] == bytes([k + 1]) * 4096 for k in range(24))
# the silent, those that send junk, and those that leave in the middle of a header delay nobody
idle = []
for k in range(60):
    s = socket.create_connection(("127.0.0.1", port))
    if k % 3 == 1: s.sendall(struct.pack(">I", 3) + b"IHAVE")
    if k % 3 == 2: s.sendall(os.urandom(4096))
    idle.append(s)
start = time.monotonic()
h = new(tcp)
assert h.pread(1, 4096) == b"\x02"
for h in hs[:8]: h.pwrite(b"q" * 100000, 1 << 20); h.pread(100000, 1 << 20)
assert time.monotonic() - start < 5
# with resets too
for s in idle:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); s.close()
# a reader that never reads: its replies wait, others' do not
deaf = [new(tcp) for _ in range(2)]
for h in deaf:
    s = h.aio_get_fd()
    req = b"".join(struct.pack(">IHHQQI", 0x25609513, 0, 0, k, 0, 1 << 20) for k in range(200))
    os.set_blocking(s, False)
    try: os.write(s, req)
    except BlockingIOError: pass
start = time.monotonic()
for h in hs: assert h.pread(1, 0) == b"\x01"
assert time.monotonic() - start < 5
# writers that vanish
for k in range(8):
    h = new(tcp if k % 2 else unix)
    for n in range(20): h.aio_pwrite(b"v" * 65536, (8 << 20) + n * 65536)
    while h.aio_get_direction() & nbd.AIO_DIRECTION_WRITE and h.poll(0): pass
    del h
for h in hs: h.shutdown()
PY
py many.py "$U" "$unix" "$port" || fail "many connections: $(tail -3 s.log)"

head -c 64M /dev/urandom >in.raw
timeout 60 nbdcopy --connections=4 --flush in.raw "$U" || fail "nbdcopy in"
timeout 60 nbdcopy --connections=4 "$U" out.raw && cmp in.raw out.raw || fail "nbdcopy out"

# where somebody listens already, and where nobody can
check_status 98 tapdisk null:64M --nbd "tcp:127.0.0.1:$port"
check_status 98 tapdisk null:64M --nbd "unix:$T/s"
[ -S s ] || fail "the other's socket was removed"
for bad in tcp: tcp:127.0.0.1 "tcp:[::1" tcp:127.0.0.1:nonsense unix: "$T/s" ftp:x; do
	check_status 22 tapdisk null:64M --nbd "$bad"
done
unserve s

# one that died left its socket: replaced
serve s --name d vhd:d.vhd
{ kill -9 "${server[s]}" && wait "${server[s]}"; } 2>/dev/null
[ -S s ] || fail "no socket was left"
rm s.log
serve s --name d vhd:d.vhd --nbd "tcp:[::1]:$port"
wait_for 10 grep -q what=ready s.log
timeout 60 nbdcopy "$unix" out.raw && cmp in.raw out.raw || fail "after kill -9"
if [ -e /proc/net/if_inet6 ]; then
	[ "$(nbdinfo --size "nbd://[::1]:$port")" = $((64 << 20)) ] || fail "IPv6"
fi
# it ends while clients are connected
py -c 'import nbd, sys, time
hs = []
for k in range(5):
    h = nbd.NBD(); h.connect_uri(sys.argv[1]); h.pread(1, 0); hs.append(h)
print("up", flush=True); time.sleep(20)' "$unix" >up &
clients=$!
wait_for 10 grep -q up up
unserve s
kill "$clients" 2>/dev/null
vhd-util check d.vhd | grep -qx 'd.vhd is valid' || fail "check"
exit 0
