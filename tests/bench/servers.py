"""servers.py - NBD servers that compete, and the client that loads them

Each serves one image at a Unix socket, without the page cache where it can (nbdkit cannot).  The
client is fio; the server's processor time is what the kernel counted for its threads meanwhile.
"""
import functools
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time

from contest import BIN

SECONDS = float(os.environ.get("BENCH_SECONDS", "1"))
LIMIT = 120  # seconds: nothing that is waited for takes so long
TAPDISK = os.path.join(BIN, "tapdisk")
TAP_CTL = os.path.join(BIN, "tap-ctl")


class Server:
    def __init__(self, name, make_command, file):
        self.name = name
        self.socket = os.path.abspath(f"sock.{name}.{os.path.basename(file)}".replace(" ", "-"))
        self.log = open(self.socket + ".log", "wb")
        self.process = subprocess.Popen(make_command(self.socket, file), stdout=self.log,
                                        stderr=self.log)
        end = time.monotonic() + LIMIT
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"{name} does not serve: {open(self.log.name).read()}")
            time.sleep(0.01)

    def answers(self):
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(self.socket) == 0

    def tasks(self, what):
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{task}/{what}", encoding="ascii") as f:
                yield f.read()

    def cpu_us(self):
        """Processor time so far, of threads that are gone too."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as f:
            user, system = f.read().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) * 1e6 / os.sysconf("SC_CLK_TCK")

    def switches(self):
        """How often one of its threads was woken, so far: it left a processor before."""
        return sum(int(line.split()[1]) for text in self.tasks("status")
                   for line in text.splitlines() if "ctxt_switches" in line)

    def memory(self):
        """Bytes of memory of its own."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) << 10 for line in f if line.startswith("RssAnon"))

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        if os.path.exists(self.socket):
            os.remove(self.socket)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def tapdisk(kind):
    return lambda sock, file: [TAPDISK, f"{kind}:{os.path.abspath(file)}", "--nbd", f"unix:{sock}",
                               "--run-dir", os.path.abspath("run")]


def qemu_nbd(kind):
    return lambda sock, file: ["qemu-nbd", "-t", "-f", kind, "--cache=none", "--aio=native",
                               "-k", sock, file]


def nbdkit(sock, file):
    return ["nbdkit", "-f", "-U", sock, "file", os.path.abspath(file)]


COMMANDS = {"vhd": tapdisk("vhd"), "raw": tapdisk("raw"), "qemu vpc": qemu_nbd("vpc"),
            "qemu raw": qemu_nbd("raw"), "nbdkit": nbdkit}


@functools.cache
def missing(name):
    """What this contender, or the client, lacks; None: nothing."""
    programs = ["fio"] + (["nbdkit"] if name == "nbdkit" else []) + \
        (["qemu-nbd"] if name.startswith("qemu") else [])
    absent = next((p for p in programs if not shutil.which(p)), None)
    if absent:
        return absent
    engines = subprocess.run(["fio", "--enghelp"], check=True, capture_output=True, text=True)
    return None if "nbd" in engines.stdout.split() else "fio with an NBD engine"


def fio_command(server, rw, bs, depth, *more):
    return ["fio", "--name=bench", "--ioengine=nbd", f"--uri=nbd+unix:///?socket={server.socket}",
            f"--rw={rw}", f"--bs={bs}", f"--iodepth={depth}", "--lat_percentiles=1", "--output-format=json", *more]


def fio_result(text):
    """What a job did, from its JSON, which warnings may precede."""
    job = json.loads(text[text.index("{"):])["jobs"][0]
    side = max((job["read"], job["write"]), key=lambda s: s["total_ios"])
    if job["error"] or not side["total_ios"]:
        raise RuntimeError(f"fio failed: {text}")
    return {"ios": side["total_ios"], "iops": side["iops"], "mb": side["bw_bytes"] / 1e6,
            "p50_us": side["lat_ns"]["percentile"]["50.000000"] / 1000,
            "max_ms": side["lat_ns"]["max"] / 1e6, "seconds": side["runtime"] / 1000}


def load(server, rw, bs, depth, *more):
    """Load the server for SECONDS, unless @more says how long."""
    how_long = more or (f"--runtime={SECONDS * 1000:.0f}ms", "--time_based")
    before = server.cpu_us()
    done = subprocess.run(fio_command(server, rw, bs, depth, *how_long), check=True,
                          capture_output=True, text=True, timeout=LIMIT)
    result = fio_result(done.stdout)
    result["cpu_us"] = (server.cpu_us() - before) / result["ios"]
    return result


def load_in_background(server, rw, bs, depth, *more):
    return subprocess.Popen(fio_command(server, rw, bs, depth, *more), stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True)


def load_end(job):
    """Its result; it ends now."""
    job.send_signal(signal.SIGINT)
    return fio_result(job.communicate(timeout=LIMIT)[0])


def idle_client(server):
    """A connection that has negotiated and says nothing."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(LIMIT)
    s.connect(server.socket)
    s.recv(18, socket.MSG_WAITALL)
    s.sendall(struct.pack(">IQII", 3, 0x49484156454F5054, 1, 0))
    s.recv(10, socket.MSG_WAITALL)
    return s
