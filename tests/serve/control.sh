#!/usr/bin/env bash
# control - the control socket: its description is the one in doc/, hostile clients harm nobody,
# who may connect; socket activation; the background; signals; throttling and growing live
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/ctl.inc"
need qemu-io python3
doc=$root/doc/control.varlink

vhd-util create -n d.vhd --size 64M --max-size 1G
new_disk "vhd:$T/d.vhd"
cat >talk.py <<'PY'
import json, os, socket, sys, time
def connect(path):
    s = socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect(path); return s
def call(s, method, **parameters):
    s.sendall(json.dumps({"method": method, "parameters": parameters}).encode() + b"\0")
    data = b""
    while not data.endswith(b"\0"):
        more = s.recv(65536)
        if not more: return None
        data += more
    return json.loads(data[:-1])
path = sys.argv[1]
good = connect(path)
if sys.argv[2] == "describe":
    r = call(good, "org.varlink.service.GetInterfaceDescription", interface="org.vhdtoolkit.Tapdisk")
    sys.stdout.write(r["parameters"]["description"])
elif sys.argv[2] == "hostile":
    for junk in (b"\0", b"{}\0", b"[]\0", b"{\"method\": 1}\0", b"\xff\xfe\0", b"{" * 70000, b"x" * 200000,
                 b"[" * 1000 + b"\0", b'{"method":"a","method":"b"}\0', b'{"method":"org.vhdtoolkit.Tapdisk.List"} junk\0',
                 b'{"method":"org.vhdtoolkit.Tapdisk.Pause","parameters":{"minor":"x"}}\0',
                 b'{"method":"org.vhdtoolkit.Tapdisk.Pause","parameters":{"minor":1e300}}\0',
                 b'{"method":"org.vhdtoolkit.Tapdisk.Close","parameters":{"minor":0,"extra":1}}\0'):
        s = connect(path)
        try:
            s.sendall(junk)
            s.shutdown(socket.SHUT_WR)
            while s.recv(65536): pass
        except (ConnectionError, socket.timeout, BrokenPipeError):
            pass
        s.close()
    r = call(good, "org.vhdtoolkit.Tapdisk.List")
    assert r and "error" not in r, r
    idle = []
    for _ in range(300):
        try: idle.append(connect(path))
        except OSError: break
    for _ in range(100):  # of too many, the one idle longest gives way
        try:
            good = connect(path)
            break
        except BlockingIOError:
            time.sleep(0.05)
    r = call(good, "org.vhdtoolkit.Tapdisk.List")
    assert r and "error" not in r, r
    r = call(good, "org.vhdtoolkit.Tapdisk.Nonsense")
    assert "error" in r and "MethodNotFound" in r["error"], r
    r = call(good, "org.vhdtoolkit.Tapdisk.Close", minor=77)
    assert "error" in r, r
PY
ctl=$T/run/ctl$pid
[ "$(stat -c %a "$ctl")" = 600 ] || fail "mode of the control socket"
[ "$(stat -c %a "$sock")" = 600 ] || fail "mode of the NBD socket"
[ "$(stat -c %a "$T/run")" = 700 ] || fail "mode of the run directory"
python3 talk.py "$ctl" describe >described || fail "describe"
diff described "$doc" || fail "doc/control.varlink is not what the socket says"
timeout 60 python3 talk.py "$ctl" hostile || fail "hostile clients"
io 'write -P 1 0 64k' 'read -P 1 0 64k'

# somebody else is refused
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	chmod 711 "$T" "$T/run"
	chmod 666 "$ctl"
	setpriv --reuid=65534 --regid=65534 --clear-groups timeout 20 python3 - "$ctl" <<'PY' || fail "another uid was served"
import socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(10)
try:
    s.connect(sys.argv[1])
    s.sendall(b'{"method":"org.vhdtoolkit.Tapdisk.List"}\0')
    sys.exit(1 if s.recv(100) else 0)
except (PermissionError, ConnectionError):
    sys.exit(0)
PY
	chmod 600 "$ctl"
	chmod 700 "$T/run"
fi

# events tell what happens
timeout 30 tap-ctl events -p "$pid" --count 2 --json >events &
listener=$!
sleep 0.5
tap-ctl pause -p "$pid" -m "$minor" && tap-ctl unpause -p "$pid" -m "$minor" || fail "pause, unpause"
wait $listener || fail "events"
grep -q paused events && grep -q running events || fail "events said: $(cat events)"

# a lease runs out
tap-ctl pause -p "$pid" -m "$minor" --lease 1 || fail "pause with a lease"
running() { tap-ctl list | grep -q 'state=0x0 '; }
wait_for 10 running

# throttling: 20 requests at 10 a second, burst 1, take more than a second
tap-ctl throttle -p "$pid" -m "$minor" --iops 10 --iops-burst 1 || fail "throttle"
start=$(date +%s%N)
args=()
for ((k = 0; k < 15; k++)); do args+=("read $((k * 4096)) 4096"); done
io "${args[@]}"
[ $((($(date +%s%N) - start) / 1000000)) -gt 1000 ] || fail "15 reads at 10 a second were too fast"
tap-ctl throttle -p "$pid" -m "$minor" --iops 0 || fail "no throttle"

# growing live, in the room that create left
tap-ctl resize -p "$pid" -m "$minor" --size 512M || fail "resize"
io 'write -P 5 500M 1M' 'read -P 5 500M 1M' 'read -P 0 200M 1M'
check_status 34 tap-ctl resize -p "$pid" -m "$minor" --size 4G
check_status 34 tap-ctl resize -p "$pid" -m "$minor" --size 3T
check_err 'VHDX or qcow2'
check_status 22 tap-ctl resize -p "$pid" -m "$minor" --size 1M

# one more address, then none
tap-ctl export -p "$pid" -m "$minor" --nbd "unix:$T/extra" >address || fail "export"
[ "$(cat address)" = "unix:$T/extra" ] || fail "export printed '$(cat address)'"
nbdinfo --size "nbd+unix:///?socket=$T/extra" | grep -qx $((512 << 20)) || fail "size at the second address"
tap-ctl unexport -p "$pid" -m "$minor" --nbd "unix:$T/extra" || fail "unexport"
[ -e "$T/extra" ] && fail "the socket stayed"
tap-ctl stats -p "$pid" -m "$minor" --openmetrics | grep -q '^# EOF' || fail "openmetrics"
end_disk
[ "$(vhd-util query -n d.vhd -v)" = 512 ] || fail "size on disk"
[ "$(vhd-util check d.vhd)" = "d.vhd is valid" ] || fail "check: $(vhd-util check d.vhd)"

# background, pid file, SIGTERM
printed=$(tapdisk vhd:d.vhd --nbd "unix:$T/s" --daemon --pid-file "$T/pid" --log syslog) || fail "daemon"
pids+=("$printed")
[ "$(cat pid)" = "$printed" ] || fail "pid file"
nbdinfo --size "nbd+unix:///?socket=$T/s" >/dev/null || fail "the daemon serves when the command returns"
check_status 16 tapdisk vhd:d.vhd --nbd "unix:$T/s2" --daemon
kill "$printed"
wait_for 10 gone "$printed"
[ -e pid ] || [ -e s ] && fail "pid file or socket are left"

# sockets handed over, and readiness told
cat >activate.py <<'PY'
import os, socket, sys
note = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); note.bind(sys.argv[2]); note.settimeout(20)
listen = socket.socket(socket.AF_UNIX); listen.bind(sys.argv[1]); listen.listen()
pid = os.fork()
if not pid:
    os.dup2(listen.fileno(), 3); os.set_inheritable(3, True)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), NOTIFY_SOCKET=sys.argv[2])
    os.execvp("tapdisk", ["tapdisk", "vhd:d.vhd"])
assert b"READY=1" in note.recv(1000)
print(pid, flush=True)
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
PY
timeout 60 python3 activate.py "$T/handed" "$T/notify" >activated 2>/dev/null &
activator=$!
wait_for 20 test -s activated
nbdinfo --size "nbd+unix:///?socket=$T/handed" >/dev/null || fail "socket activation"
kill "$(cat activated)"
wait $activator || fail "SIGTERM of the activated: status $?"
exit 0
