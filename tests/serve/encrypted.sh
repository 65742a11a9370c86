#!/usr/bin/env bash
# encrypted - a live disk whose images are encrypted: what clients see is clear, what is on the
# storage is not; keys come from a file, or by tap-ctl from standard input
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/ctl.inc"
need qemu-io cmp python3
head -c 64 /dev/urandom >key && head -c 64 /dev/urandom >other || fail "keys"
pattern=hereisclear
yes $pattern | head -c 64K >text
vhd-util create -n base.vhd --size 64M --max-size 256M && vhd-util snapshot -n leaf.vhd -p base.vhd -e || fail "make"
vhd-util key -s -n base.vhd -k key || fail "key"
vhd-util write base.vhd --offset 5M --key-file key <text || fail "write"
# after the base's last change: check, below, says nothing of its time
rm leaf.vhd && vhd-util snapshot -n leaf.vhd -p base.vhd -e || fail "snapshot"
truncate -s 64M model.raw && dd if=text of=model.raw bs=1M seek=5 conv=notrunc status=none
# the same commands to the disk and to a raw file
both() {
	io "$@"
	local args=()
	for c in "$@"; do args+=(-c "$c"); done
	qemu-io -f raw "${args[@]}" model.raw >/dev/null || fail "model: $*"
}
same() { # the image on the disk, through the chain
	vhd-util convert "$1" got.raw --key-file key --force || fail "convert $1"
	truncate -s "$(stat -c %s got.raw)" model.raw
	cmp got.raw model.raw || fail "$2"
}

# refused: no key, another, one for what is clear, one for a raw disk
vhd-util create -n clear.vhd --size 1M && truncate -s 1M raw.img || fail "make"
tcp=(--nbd "unix:$T/s")
check_status 95 timeout 20 tapdisk vhd:leaf.vhd "${tcp[@]}"
check_err encrypted
check_status 22 timeout 20 tapdisk --key-file other vhd:leaf.vhd "${tcp[@]}"
check_status 22 timeout 20 tapdisk --key-file key vhd:clear.vhd "${tcp[@]}"
check_status 22 timeout 20 tapdisk --key-file key aio:raw.img "${tcp[@]}"
check_status 22 timeout 20 tapdisk vhd:clear.vhd --key-file key "${tcp[@]}"
check_status 22 timeout 20 tapdisk --key-file text vhd:leaf.vhd "${tcp[@]}"
check_status 2 timeout 20 tapdisk --key-file absent vhd:leaf.vhd "${tcp[@]}"
check_status 22 tap-ctl create -a vhd:leaf.vhd -E <text
check_status 22 tap-ctl create -a vhd:leaf.vhd -E <other
check_status 95 tap-ctl create -a vhd:leaf.vhd
[ -z "$(tap-ctl list)" ] || fail "something is left: $(tap-ctl list)"

# with a file; two disks, one of them clear
tapdisk --key-file key --name secret vhd:leaf.vhd --name open vhd:clear.vhd --nbd "unix:$T/s" 2>log &
pids+=($!)
pid=$!
minor=0
uri="nbd+unix:///secret?socket=$T/s"
wait_for 10 test -S "$T/s"
both 'write -P 7 12345 100000' 'write -P 9 20M 3M' "write -s text 30M 64k" 'write -z 21M 500k' 'write -z -u 22M 300001' \
	'write -P 1 20971521 7' 'read -P 9 21500k 4k' 'read -P 0 21600k 1k' flush
io 'discard 40M 1M' 'discard 30M 4k' # a hint: nothing of it, or zeros
io 'read -P 0 40M 1M' 'read -P 1 20971521 7' 'read -P 7 12345 100000'
qemu-io -f raw "nbd+unix:///open?socket=$T/s" -c 'write -P 3 0 64k' -c 'read -P 3 0 64k' >out || fail "the clear disk"
grep -q $pattern leaf.vhd base.vhd && fail "clear text on the storage"
[ "$(qemu-io -f raw "$uri" -c 'read -v 30M 16' | grep -c here)" = 1 ] || fail "reading back"
# what was flushed stays, whatever is killed
kill -9 "$pid"
wait "$pid" 2>/dev/null
vhd-util check -p leaf.vhd >/dev/null || fail "check: $(vhd-util check -p leaf.vhd)"
same leaf.vhd "after kill -9"

# key on standard input; snapshots, pauses, other images, growth
new_disk_with_key() {
	pid=$(tap-ctl spawn) && minor=$(tap-ctl allocate) || fail "spawn"
	pids+=("$pid")
	minor=${minor##*-}
	tap-ctl attach -p "$pid" -m "$minor" || fail "attach"
	check_status 22 tap-ctl open -p "$pid" -m "$minor" -a "$1" -E <other
	check_status 95 tap-ctl open -p "$pid" -m "$minor" -a "$1"
	sock=$(tap-ctl open -p "$pid" -m "$minor" -a "$1" -E <key) || fail "open"
	uri="nbd+unix:///?socket=$sock"
}
# what comes along with a call, and is no key: refused at once, and closed
cat >passing.py <<'PY'
import json, os, socket, sys
address, minor, key, path, pid = sys.argv[1], int(sys.argv[2]), open(sys.argv[3], "rb").read(), sys.argv[4], sys.argv[5]

def memfd(data):
    fd = os.memfd_create("k", os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    os.lseek(fd, 0, 0)
    return fd

def ask(s, method, fds, **parameters):
    call = {"method": "org.vhdtoolkit.Tapdisk." + method, "parameters": dict(minor=minor, **parameters)}
    socket.send_fds(s, [json.dumps(call).encode() + b"\0"], fds)
    got = b""
    while not got.endswith(b"\0"):
        more = s.recv(65536)
        assert more, "the connection was closed"
        got += more
    return json.loads(got[:-1])

def connect():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10)
    s.connect(address)
    return s

def held():  # who has a key is not looked into, but by root
    return len(os.listdir(f"/proc/{pid}/fd")) if os.geteuid() == 0 else 0

reader, writer = os.pipe()
s = connect()
ask(s, "Open", [], args="vhd:" + path, key=False)
before = held()
for fds in ([], [reader], [os.open("/dev/null", os.O_RDONLY)], [os.open(sys.argv[3], os.O_RDONLY)],
            [memfd(b"short")], [memfd(key + b"x")], [memfd(b"")], [memfd(key[:32] * 2)], [memfd(key[::-1])]):
    reply = ask(s, "Open", fds, args="vhd:" + path, key=True)
    assert reply.get("error", "").endswith("Failed") and reply["parameters"]["status"] == 22, (fds, reply)
    assert held() == before, (held(), before, fds)
for _ in range(20):  # nobody asked for these; of several one is kept, of these the last
    ask(s, "Stats", [reader, writer, memfd(key), reader])
assert held() <= before + 1, (held(), before)
assert "error" in ask(s, "Open", [], args="vhd:" + path, key=False)
s.close()
s = connect()
assert "error" in ask(s, "Open", [], args="vhd:" + path, key=True), "another connection's descriptor was taken"
# the key may come with any part of the message; and of two the one that came last counts
text = json.dumps({"method": "org.vhdtoolkit.Tapdisk.Open", "parameters": {"minor": minor, "args": "vhd:" + path, "key": True}}).encode() + b"\0"
s.sendall(text[:20])
socket.send_fds(s, [text[20:30]], [reader])
socket.send_fds(s, [text[30:]], [memfd(key)])
reply = json.loads(s.recv(65536)[:-1])
assert "error" not in reply, reply
assert "error" not in ask(s, "Close", []), "close"
PY
pid=$(tap-ctl spawn) && minor=$(tap-ctl allocate) || fail "spawn"
pids+=("$pid")
minor=${minor##*-}
tap-ctl attach -p "$pid" -m "$minor" || fail "attach"
python3 passing.py "$T/run/ctl$pid" "$minor" key "$PWD/leaf.vhd" "$pid" || fail "descriptors"
tap-ctl detach -p "$pid" -m "$minor" && tap-ctl free -m "$minor" || fail "detach"
new_disk_with_key vhd:leaf.vhd
both 'write -P 3 0 1M' 'read -P 7 1200000 0' "write -s text 50M 64k"
tap-ctl snapshot -m "$minor" --name monday.vhd || fail "snapshot"
[ "$(vhd-util key -p leaf.vhd)" = "$(vhd-util key -p base.vhd)" ] || fail "the new leaf has another key hash"
both 'write -P 4 512k 1M' 'write -z 100k 9k' 'read -P 3 0 100k' flush
tap-ctl pause -p "$pid" -m "$minor" || fail "pause"
vhd-util snapshot -n new.vhd -p leaf.vhd -e && tap-ctl unpause -p "$pid" -m "$minor" -a vhd:new.vhd || fail "unpause"
both 'write -P 5 600k 5000' 'read -P 4 612k 100k' flush
tap-ctl pause -p "$pid" -m "$minor" && vhd-util create -n plain.vhd --size 64M || fail "pause"
check_status 22 tap-ctl unpause -p "$pid" -m "$minor" -a vhd:plain.vhd
tap-ctl unpause -p "$pid" -m "$minor" || fail "unpause"
tap-ctl stats -p "$pid" -m "$minor" >out && tap-ctl list >>out
hex=$(od -An -tx1 key | tr -d ' \n')
grep -qF -e "${hex:0:32}" out log && fail "the key was told"
end_disk
grep -q $pattern ./*.vhd && fail "clear text on the storage"
same new.vhd "after snapshots and pauses"
[ "$(vhd-util check -p -b new.vhd)" = "new.vhd is valid" ] || fail "check: $(vhd-util check -p -b new.vhd)"
for ((k = 0; k < 3; k++)); do
	vhd-util coalesce new.vhd --ancestor base.vhd --dry-run >/dev/null || fail "coalesce"
done
vhd-util coalesce new.vhd --ancestor base.vhd >/dev/null || fail "coalesce"
same base.vhd "merged"

# a dynamic image alone: blocks come and go
vhd-util create -n one.vhd --size 64M && vhd-util key -s one.vhd -k key || fail "make"
truncate -s 0 model.raw && truncate -s 64M model.raw
printed=$(tap-ctl create -a vhd:one.vhd -E <key) || fail "create"
minor=${printed##*-}
pid=$(tap-ctl list | sed -n "s/^pid=\([0-9]*\) minor=$minor .*/\1/p")
pids+=("$pid")
uri="nbd+unix:///?socket=$T/run/nbd$pid.$minor"
both 'write -P 1 1M 9M' 'write -z -u 2M 4M' 'write -P 2 3M 4k' 'write -z 8M 1M' 'write -P 6 63M 1M'
io 'discard 4M 4M' 'read -P 2 3M 4k' 'read -P 0 6M 1k'
both 'write -z -u 4M 4M' flush
tap-ctl destroy -p "$pid" -m "$minor" || fail "destroy"
same one.vhd "blocks freed and written again"
[ "$(vhd-util check -b one.vhd | head -1)" = "one.vhd is valid" ] || fail "check: $(vhd-util check -b one.vhd)"
exit 0
