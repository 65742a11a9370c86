#!/bin/bash
# streams: pipes and sockets that an event loop left non-blocking: waited for, never status 11
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
need python3
cd "$T" || exit 1

cat >slow.py <<'PY'
# slow.py in|out pipe|socket COMMAND…: runs it with a non-blocking descriptor whose other side is
# slow; `in` feeds it data.raw, `out` keeps what it says in got.  Its status is ours.
import fcntl, os, socket, subprocess, sys, time
way, kind, command = sys.argv[1], sys.argv[2], sys.argv[3:]
if kind == "pipe":
    read, write = os.pipe()
else:
    read, write = (s.detach() for s in socket.socketpair())
theirs, ours = (read, write) if way == "in" else (write, read)
fcntl.fcntl(theirs, fcntl.F_SETFL, fcntl.fcntl(theirs, fcntl.F_GETFL) | os.O_NONBLOCK)
child = subprocess.Popen(command, **({"stdin": theirs} if way == "in" else {"stdout": theirs}))
time.sleep(0.2)
if kind == "pipe":  # shared with us, so not ours to change
    assert fcntl.fcntl(theirs, fcntl.F_GETFL) & os.O_NONBLOCK
os.close(theirs)
if way == "in":
    data = open("data.raw", "rb").read()
    while data:
        data = data[os.write(ours, data[:100000]):]
        if len(data) % 7 == 0:
            time.sleep(0.01)
    os.close(ours)
else:
    with open("got", "wb") as f:
        while piece := os.read(ours, 300000):
            f.write(piece)
            time.sleep(0.01)
sys.exit(child.wait(30))
PY

head -c 3145728 /dev/urandom >data.raw
"$U" create -n disk.vhd -s 4 || fail "create"
for kind in pipe socket; do
	check_status 0 timeout 30 python3 slow.py in $kind "$U" write disk.vhd --offset 0
	check_status 0 timeout 30 python3 slow.py out $kind "$U" read disk.vhd -R 0 -c 3M
	cmp got data.raw || fail "read to a $kind"
	check_status 0 timeout 30 python3 slow.py out $kind "$U" convert disk.vhd - --to raw
	cmp -n 3145728 got data.raw || fail "convert to a $kind"
	check_status 0 timeout 30 python3 slow.py out $kind "$U" convert disk.vhd - --to raw --gzip
	gzip -dc got | cmp -n 3145728 - data.raw || fail "gzip to a $kind"
	check_status 0 timeout 30 python3 slow.py in $kind "$U" convert - "from-$kind.raw" --from raw
	cmp "from-$kind.raw" data.raw || fail "convert from a $kind"
done

# another side that is gone is no reason to wait
python3 - "$U" <<'PY' || fail "a pipe without a reader"
import fcntl, os, subprocess, sys
read, write = os.pipe()
fcntl.fcntl(write, fcntl.F_SETFL, os.O_NONBLOCK | os.O_WRONLY)
os.close(read)
p = subprocess.run([sys.argv[1], "read", "disk.vhd", "-R", "0", "-c", "1M"], stdout=write,
                   stderr=subprocess.PIPE, timeout=20)
assert p.returncode == 32, (p.returncode, p.stderr)
PY
exit 0
