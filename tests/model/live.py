#!/usr/bin/python3
"""live.py BIN FLAT COUNT SEED - a chain that is served, written by several clients at once, while it is
snapshotted, merged from below, paused, grown, and its server killed, against a plain model

Each client has stripes of its own, so that what it reads is known, while blocks, bitmaps and the table
are shared by all.  What was flushed is there after a kill; of what was written since, each sector is the
old or one of the new.  In the end the chain is looked at by libvhd, by an independent reader and by
`check`.
"""
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

import nbd

BIN, FLAT = (os.path.abspath(p) for p in sys.argv[1:3])
COUNT, SEED = int(sys.argv[3]), int(sys.argv[4])
MIB, SECTOR = 1 << 20, 512


class Client(threading.Thread):
    """Random requests on its stripes, one after the other, each answer compared."""

    def __init__(self, world, number):
        super().__init__(daemon=True)
        self.w, self.number = world, number
        self.r = random.Random(world.seed * 1000 + world.clients_made)
        world.clients_made += 1
        self.h = nbd.NBD()
        self.h.connect_uri(world.uri)
        self.requests = 0

    def place(self):
        """Within one stripe of this client's, at sectors mostly."""
        w = self.w
        while True:
            stripe = self.r.randrange((w.size + w.stripe - 1) // w.stripe)
            if stripe % w.clients == self.number:
                break
        first, end = stripe * w.stripe, min((stripe + 1) * w.stripe, w.size)
        at = first + self.r.randrange(end - first)
        n = min(self.r.choice([1, 512, 4096, 4096, 20000, w.stripe]), end - at)
        if self.r.random() < 0.8:
            at -= at % SECTOR
            n = min((n + SECTOR - 1) // SECTOR * SECTOR, end - at)
        return at, n

    def may_be(self, at, data):
        """From now until a flush: what is there, or this."""
        w = self.w
        first, end = at // SECTOR, (at + len(data) + SECTOR - 1) // SECTOR
        new = bytearray(w.disk[first * SECTOR : end * SECTOR])
        new[at - first * SECTOR : at - first * SECTOR + len(data)] = data
        for s in range(first, end):
            old = bytes(w.disk[s * SECTOR : (s + 1) * SECTOR])
            w.doubt[self.number].setdefault(s, [old]).append(bytes(new[(s - first) * SECTOR : (s - first + 1) * SECTOR]))
        return first * SECTOR, new

    def change(self, what, at, n):
        data = bytes(n) if what != "write" else self.r.randbytes(n)
        start, new = self.may_be(at, data)
        fua = nbd.CMD_FLAG_FUA if self.r.random() < 0.1 else 0
        if what == "write":
            self.h.pwrite(data, at, flags=fua)
        elif what == "zero":
            self.h.zero(n, at, flags=fua | self.r.choice([0, nbd.CMD_FLAG_NO_HOLE]))
        else:
            self.h.trim(n, at, flags=fua)
            got = self.h.pread(len(new), start)  # old, or zeros: sector by sector
            for i in range(0, len(new), SECTOR):
                s = (start + i) // SECTOR
                if got[i : i + SECTOR] not in self.w.doubt[self.number][s]:
                    self.w.die(f"client {self.number}: sector {s} after a trim is neither old nor zero")
            new = got
        self.w.disk[start : start + len(new)] = new
        if fua:  # durable: nothing else may come back
            for s in range(start // SECTOR, (start + len(new)) // SECTOR):
                del self.w.doubt[self.number][s]

    def step(self):
        w = self.w
        what = self.r.choices(["write", "read", "zero", "trim", "flush"], [40, 30, 8, 8, 8])[0]
        if what == "flush":
            self.h.flush()
            w.doubt[self.number].clear()
            return
        at, n = self.place()
        if what != "read":
            self.change(what, at, n)
            return
        got = self.h.pread(n, at)
        if got != w.disk[at : at + n]:
            i = next(i for i in range(n) if got[i] != w.disk[at + i])
            w.die(f"client {self.number} reads {n} bytes at {at}: byte {at + i} is wrong")

    def run(self):
        w = self.w
        try:
            while not w.stopping:
                if not w.go.is_set():
                    w.resting[self.number].set()
                    w.go.wait()
                    w.resting[self.number].clear()
                    continue
                self.step()
                self.requests += 1
        except nbd.Error as e:
            if not w.killing:
                w.die(f"client {self.number}: {e}")
        finally:
            w.resting[self.number].set()


class World:
    def __init__(self, seed):
        self.seed = seed
        self.r = r = random.Random(seed)
        self.dir = tempfile.mkdtemp(prefix="vhd-live.", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        os.environ["TAPDISK_RUN_DIR"] = os.path.join(self.dir, "run")
        self.log, self.names, self.kills, self.clients_made, self.requests = [], 0, 0, 0, 0
        self.failed = threading.Lock()
        self.stopping = self.killing = False
        self.go = threading.Event()
        self.clients = r.randrange(1, 4)
        self.stripe = r.choice([4096, 16384, 65536])
        self.size = r.randrange(4, 24) * MIB + r.choice([0, 0, 512, 4096])
        self.room = 48
        self.key = []
        if r.random() < 0.25:
            key = os.path.join(self.dir, "key")
            with open(key, "wb") as f:
                f.write(r.randbytes(r.choice([32, 64])))
            self.key = ["--key-file", key]
            self.size = self.size // (2 * MIB) * 2 * MIB  # grown live only with whole blocks
        self.disk = bytearray(self.size)
        self.doubt = [{} for _ in range(self.clients)]
        self.make_chain()

    def die(self, text):
        self.failed.acquire()  # once
        print(f"seed {self.seed}: {text}; what happened, in {self.dir}:", file=sys.stderr)
        print("\n".join("  " + x for x in self.log[-60:]), file=sys.stderr)
        print(open(os.path.join(self.dir, "log")).read()[-2000:], file=sys.stderr)
        sys.stderr.flush()
        self.server.kill()
        os._exit(1)

    def run(self, tool, *args, ok=(0,), data=None):
        self.log.append(f"{tool} {' '.join(args)}")
        p = subprocess.run([os.path.join(BIN, tool), *args], input=data, stdin=None if data is not None else subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.dir, timeout=60)
        if p.returncode not in ok:
            self.die(f"{tool} {' '.join(args)}: status {p.returncode}: {p.stdout.decode(errors='replace').strip()}")
        return p.returncode

    def vhd(self, *args, **more):
        return self.run("vhd-util", *args, **more)

    def tap(self, command, *args, **more):
        return self.run("tap-ctl", command, "-p", str(self.server.pid), "-m", "0", *args, **more)

    def new(self):
        self.names += 1
        return os.path.join(self.dir, f"i{self.names}.vhd")

    def block_size(self):
        return ["--block-size", self.r.choice(["4K", "64K", "2M"])] if self.r.random() < 0.5 else []

    def make_chain(self):
        base = self.new()
        self.vhd("create", "-n", base, "--size", str(self.size), "--max-size", f"{self.room}M", *self.block_size())
        if self.key:
            self.vhd("key", "-s", "-n", base, "-k", self.key[1])
        self.chain = [base]
        for _ in range(self.r.randrange(4)):
            self.fill_leaf()
            child = self.new()
            self.vhd("snapshot", "-n", child, "-p", self.chain[-1], "--empty", *self.block_size())
            if self.key:
                self.vhd("key", "-s", "-n", child, "-k", self.key[1])
            self.chain.append(child)

    def fill_leaf(self):
        for _ in range(self.r.randrange(1, 6)):
            at = self.r.randrange(self.size)
            data = self.r.randbytes(min(self.r.choice([512, 5000, 300000]), self.size - at))
            self.vhd("write", self.chain[-1], "--offset", str(at), *self.key, data=data)
            self.disk[at : at + len(data)] = data

    # ── server and clients ──

    def serve(self):
        sock = os.path.join(self.dir, "sock")
        self.uri = f"nbd+unix:///?socket={sock}"
        more = self.r.choice([[], [], ["--engine", "aio"], ["--poll-us", "50"]])
        with open(os.path.join(self.dir, "log"), "ab") as log:
            self.server = subprocess.Popen([os.path.join(BIN, "tapdisk"), *self.key, "vhd:" + self.chain[-1], "--nbd", "unix:" + sock, *more],
                                           stderr=log, cwd=self.dir)
        self.log.append(f"tapdisk {' '.join(more)}")
        while not self.accepts(sock):
            if self.server.poll() is not None:
                self.die(f"tapdisk ended with {self.server.returncode}")
            time.sleep(0.005)
        self.resting = [threading.Event() for _ in range(self.clients)]
        self.stopping = self.killing = False
        self.go.set()
        self.threads = [Client(self, i) for i in range(self.clients)]
        for t in self.threads:
            t.start()

    def accepts(self, sock):  # that of a killed server is there, too
        with socket.socket(socket.AF_UNIX) as s:
            return not s.connect_ex(sock)

    def end_clients(self):
        self.stopping = True
        self.go.set()
        for t in self.threads:
            t.join(60)
            if t.is_alive():
                self.die("a client hangs")
            self.requests += t.requests

    def quiet(self):
        """No request is under way until self.go.set()."""
        self.go.clear()
        for e in self.resting:
            if not e.wait(60):
                self.die("a request hangs")

    def content(self, path):
        p = subprocess.run([os.path.join(BIN, "vhd-util"), "convert", path, "-", "--to", "raw", *self.key], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE)
        if p.returncode:
            self.die(f"convert {path}: {p.stderr.decode()}")
        return p.stdout

    def settle(self):
        """The server is gone: what is there is allowed, and is the model from now on."""
        got = self.content(self.chain[-1])
        if len(got) != self.size:
            self.die(f"{len(got)} bytes instead of {self.size}")
        doubt = {s: values for d in self.doubt for s, values in d.items()}
        if got != self.disk:
            for s in range((self.size + SECTOR - 1) // SECTOR):
                is_, was = got[s * SECTOR : (s + 1) * SECTOR], self.disk[s * SECTOR : (s + 1) * SECTOR]
                if is_ != was and is_ not in doubt.get(s, []):
                    self.die(f"sector {s} is {'none of what was written' if s in doubt else 'not what was flushed'}")
        self.disk[:] = got
        for d in self.doubt:
            d.clear()
        self.look("after that")

    def look(self, why):
        p = subprocess.run([os.path.join(BIN, "vhd-util"), "check", self.chain[-1], "-p", "-b"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if p.returncode:
            self.die(f"{why}: check: {p.stdout.decode()}")

    def end(self):
        """By its own will everything is written, flushed or not."""
        self.end_clients()
        for d in self.doubt:
            d.clear()
        self.server.terminate()
        if self.server.wait(60):
            self.die(f"tapdisk ended with {self.server.returncode}")
        self.settle()

    # ── what may happen ──

    def rest(self):
        time.sleep(self.r.random() * 0.05)

    def snapshot(self):
        if len(self.chain) > 7:
            return self.merge()
        frozen = self.new()
        known = self.r.random() < 0.5
        if known:
            self.quiet()
            want = bytes(self.disk)
        self.tap("snapshot", "--name", frozen)
        if known and self.content(frozen) != want:
            self.die("the frozen node has something else")
        self.go.set()
        self.chain.insert(-1, frozen)

    def snapshot_by_hand(self):
        """As scripts do it."""
        if len(self.chain) > 7:
            return self.merge()
        child = self.new()
        self.tap("pause")
        self.vhd("snapshot", "-n", child, "-p", self.chain[-1], "--empty")
        if self.key:
            self.vhd("key", "-s", "-n", child, "-k", self.key[1])
        self.tap("unpause", "-a", "vhd:" + child)
        self.chain.append(child)

    def pause(self):
        self.tap("pause")
        self.rest()
        if self.r.random() < 0.5:
            self.look("paused")
        self.tap("unpause")

    def merge(self):
        """An inner image into its parent; the one above gets that parent, also if it is the leaf."""
        if len(self.chain) < 3:
            return
        k = self.r.randrange(1, len(self.chain) - 1)
        parent, path, above = self.chain[k - 1 : k + 2]
        if self.r.random() < 0.4:
            p = subprocess.Popen([os.path.join(BIN, "vhd-util"), "coalesce", path, *self.key], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(self.r.random() * 0.01)
            p.kill()
            p.wait()
            self.log.append(f"vhd-util coalesce {path}  killed or done")
        self.vhd("coalesce", path, *self.key)
        self.vhd("modify", "-n", above, "-p", parent)
        if self.r.random() < 0.5:
            self.rest()
        self.tap("pause")
        self.tap("unpause")
        os.unlink(path)
        del self.chain[k]

    def grow(self):
        if self.size + 2 * MIB > self.room * MIB or len(self.chain) > 1 and self.key:
            return
        size = self.size + self.r.randrange(1, 4) * (2 * MIB if self.key else MIB)
        self.end_clients()
        for d in self.doubt:
            d.clear()
        status = self.tap("resize", "--size", str(size), ok=(0, 34, 95))
        if not status:
            self.disk += bytes(size - self.size)
            self.size = size
        self.restart_clients()

    def restart_clients(self):
        self.resting = [threading.Event() for _ in range(self.clients)]
        self.stopping = False
        self.threads = [Client(self, i) for i in range(self.clients)]
        for t in self.threads:
            t.start()

    def kill(self):
        self.killing = True
        self.kills += 1
        self.log.append("kill -9")
        self.server.kill()
        self.server.wait()
        self.end_clients()
        self.settle()
        self.serve()

    def begin_anew(self):
        self.end()
        self.serve()

    def play(self):
        self.serve()
        weights = [(self.rest, 20), (self.snapshot, 10), (self.snapshot_by_hand, 5), (self.pause, 6), (self.merge, 10), (self.grow, 4),
                   (self.kill, 5), (self.begin_anew, 2)]
        for _ in range(self.r.randrange(5, 25)):
            self.r.choices([w[0] for w in weights], [w[1] for w in weights])[0]()
            self.rest()
        self.end()
        if not self.key:
            flat = subprocess.run([FLAT, *reversed(self.chain)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if flat.returncode or flat.stdout[: self.size] != self.disk:
                self.die(f"the independent reader reads something else {flat.stderr.decode()}")
        shutil.rmtree(self.dir)
        return len(self.log), self.kills, self.requests


def main():
    print(f"seeds {SEED} to {SEED + COUNT - 1}; repeat one with SEED=n COUNT=1")
    done = [World(seed).play() for seed in range(SEED, SEED + COUNT)]
    steps, kills, requests = (sum(column) for column in zip(*done))
    print(f"{COUNT} worlds, {steps} steps, {kills} killed servers, {requests} requests: all as expected")
    if COUNT > 5 and not kills:
        print("nothing was killed", file=sys.stderr)
        return 1
    return 0


sys.exit(main())
