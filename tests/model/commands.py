#!/usr/bin/env python3
"""commands.py BIN FLAT COUNT SEED - random sequences of vhd-util's commands on a chain, against a
plain model of each disk

Every image of the chain has contents of its own in the model.  A command changes one of them as it
says and leaves all others as they are; a command that is killed leaves the old contents or, once it
was run again, the new, and so does one whose disk is full.  After each the leaf is compared with the
model by libvhd and by the independent reader, and `check` finds nothing; in the end every image is
looked at.
"""
import os, random, shutil, signal, subprocess, sys, tempfile, time

ROOM = 512 << 20
BIN, FLAT = (os.path.abspath(p) for p in sys.argv[1:3])
COUNT, SEED = int(sys.argv[3]), int(sys.argv[4])
U = os.path.join(BIN, "vhd-util")
MIB = 1 << 20


class World:
    def __init__(self, seed):
        self.r = random.Random(seed)
        self.seed = seed
        self.dir = tempfile.mkdtemp(prefix="vhd-commands.", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        os.environ["VHD_PARENT_ROOT"] = self.dir
        # a file system of its own, that can be full (as root, in a name space of its own)
        self.own = "OWN_MOUNTS" in os.environ and self.mount(["-t", "tmpfs", "-o", f"size={ROOM}", "none"])
        self.fulls = 0
        self.names = 0
        self.log = []
        self.kills = 0
        # base first: [path, contents]
        block = self.r.choice(["4K", "8K", "64K", "512K", "2M"])
        size = self.r.randrange(1, 6 * MIB // 512) * 512
        base = self.new()
        more = ["--max-size", str(self.r.randrange(size, 16 * MIB) // 512 * 512)] if self.r.random() < 0.3 else []
        self.run("create", base, "--size", str(size), "--block-size", block, *more)
        self.chain = [[base, bytearray(size)]]
        self.key = []  # options of commands that need the data
        if self.r.random() < 0.25:
            path = os.path.join(self.dir, "key")
            with open(path, "wb") as f:
                f.write(self.r.randbytes(self.r.choice([32, 64])))
            self.run("key", "-s", "-n", base, "-k", path)
            self.key = ["--key-file", path]

    def mount(self, args):
        return subprocess.run(["mount", *args, self.dir], stderr=subprocess.DEVNULL).returncode == 0

    def new(self, folder=None):
        self.names += 1
        return os.path.join(folder or self.dir, f"{self.names}.vhd")

    def die(self, text):
        print(f"seed {self.seed}: {text}\nrepeat with SEED={self.seed} COUNT=1; images are in {self.dir}")
        for line in self.log[-30:]:
            print("  " + line)
        sys.exit(1)

    def run(self, *args, data=None, ok=(0,), kill=False):
        if self.own and not kill and data is None and self.names > 1 and self.r.random() < 0.5:
            self.run_full(*args, ok=ok)
        return self.run_once(*args, data=data, ok=ok, kill=kill)

    def run_full(self, *args, ok):
        """With little room left: if that is not enough nothing is lost, and it can be done again."""
        used = os.statvfs(self.dir)
        used = (used.f_blocks - used.f_bfree) * used.f_frsize
        room = used + 4096 * self.r.choice([self.r.randrange(1, 20), self.r.randrange(1, 400)])
        if args[0] not in ("resize", "compact", "optimize", "fill", "rebase", "coalesce", "modify", "relink") or \
                not self.mount(["-o", f"remount,size={room}"]):
            return
        status = self.run_once(*args, ok=(*ok, 28))
        if not self.mount(["-o", f"remount,size={ROOM}"]):
            self.die("no room again")
        self.log[-1] += f"  with {room - used} bytes of room: {status}"
        if status != 28:
            return
        self.fulls += 1
        if args[0] != "resize" and all(os.path.exists(c[0]) for c in self.chain):
            self.expect(len(self.chain) - 1, "a full disk")

    def run_once(self, *args, data=None, ok=(0,), kill=False):
        self.log.append(" ".join(args) + (f"  <{len(data)} bytes" if data is not None else ""))
        p = subprocess.Popen([U, *args], stdin=subprocess.PIPE if data is not None else subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.dir)
        if kill:
            time.sleep(self.r.random() * 0.004)
            p.send_signal(signal.SIGKILL)
        out, _ = p.communicate(data)
        if kill and p.returncode == -signal.SIGKILL:
            self.log[-1] += "  killed"
            self.kills += 1
            return None
        if p.returncode not in ok:
            self.die(f"{' '.join(args)}: status {p.returncode}: {out.decode(errors='replace').strip()}")
        return p.returncode

    def twice(self, *args):
        """A command that may be killed: then it is run again."""
        if self.r.random() < 0.5 and self.run(*args, kill=True) is not None:
            return
        self.run(*args)

    def leaf(self):
        return self.chain[-1]

    def content(self, path):
        out = subprocess.run([U, "convert", path, "-", "--to", "raw", *self.key], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if out.returncode:
            self.die(f"convert {path}: {out.stderr.decode()}")
        return out.stdout

    def expect(self, k, why):
        path, want = self.chain[k]
        got = self.content(path)
        if got != want:
            at = next((i for i in range(min(len(got), len(want))) if got[i] != want[i]), min(len(got), len(want)))
            self.die(f"{why}: {path} has {len(got)} bytes, the model {len(want)}; they differ first at byte {at}")
        if not self.key:
            chain = [c[0] for c in reversed(self.chain[: k + 1])]
            flat = subprocess.run([FLAT, *chain], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if flat.returncode or flat.stdout[: len(want)] != want:
                self.die(f"{why}: {path}: the independent reader reads something else {flat.stderr.decode()}")
        check = subprocess.run([U, "check", path, "-p", "-b", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if check.returncode:
            self.die(f"{why}: check {path}: {check.stdout.decode()}")

    # ── what may happen ──

    def write(self):
        path, disk = self.leaf()
        at = self.r.randrange(len(disk))
        n = min(self.r.choice([1, 511, 512, 4096, 70000, 300000]), len(disk) - at)
        data = bytes(n) if self.r.random() < 0.25 else self.r.randbytes(n)
        self.run("write", path, "--offset", str(at), *self.key, data=data)
        disk[at : at + n] = data

    def snapshot(self):
        if len(self.chain) > 6:
            return self.merge()
        path, disk = self.leaf()
        child = self.new()
        more = ["-S", str(self.r.randrange(8, 17))] if self.r.random() < 0.4 else []
        more += ["--block-size", self.r.choice(["4K", "64K", "2M"])] if self.r.random() < 0.4 else []
        self.run("snapshot", "-n", child, "-p", path, "--empty", *more)
        self.chain.append([child, bytearray(disk)])

    def resize(self):
        path, disk = self.leaf()
        size = self.r.randrange(1, 8 * MIB // 512) * 512
        if self.key:  # what cannot be made zero is refused
            if self.run("resize", path, "--size", str(size), "--cut-data", ok=(0, 95)):
                return
        else:
            self.twice("resize", path, "--size", str(size), "--cut-data")
        new = bytearray(size)
        n = min(size, len(disk))
        new[:n] = disk[:n]
        self.leaf()[1] = new

    def resize_killed(self):
        """Old or new, whatever the next command is; what is not cut stays."""
        path, disk = self.leaf()
        size = self.r.randrange(1, 8 * MIB // 512) * 512
        self.run("resize", path, "--size", str(size), "--cut-data", kill=True, ok=(0, 95))
        got = bytearray(self.content(path))
        n = min(size, len(disk))
        if len(got) not in (size, len(disk)) or got[:n] != disk[:n]:
            self.die(f"resize to {size} was killed: {len(got)} bytes, or others")
        for i in range(n, len(got)):
            if got[i] and (i >= len(disk) or got[i] != disk[i]):
                self.die(f"resize to {size} was killed: byte {i} is neither as it was nor zero")
        self.leaf()[1] = got

    def compact(self):
        self.twice("compact", self.r.choice(self.chain)[0] if len(self.chain) == 1 else self.leaf()[0])

    def optimize(self):
        self.twice("optimize", self.leaf()[0])

    def fill(self):
        self.run("fill", self.leaf()[0], *self.key)

    def merge(self):
        """The leaf into its parent, which becomes the leaf."""
        if len(self.chain) < 2:
            return
        (parent, below), (path, disk) = self.chain[-2], self.chain[-1]
        if len(disk) < len(below):
            return  # the parent keeps what the child does not reach
        status = None
        if self.r.random() < 0.5:
            status = self.run("coalesce", path, *self.key, kill=True, ok=(0, 34))
        if status is None:
            status = self.run("coalesce", path, *self.key, ok=(0, 34))
        if status == 34:
            return
        os.unlink(path)
        self.chain.pop()
        got = self.content(parent)
        self.leaf()[1] = bytearray(disk[: len(got)])
        if any(disk[len(got) :]):
            self.die("a merge lost what is behind the parent's end")

    def merge_below(self):
        """An inner image into its parent; the one above is given that parent."""
        if len(self.chain) < 3:
            return
        k = self.r.randrange(1, len(self.chain) - 1)
        (parent, below), (path, disk), (above, _) = self.chain[k - 1 : k + 2]
        if len(disk) != len(below):
            return
        self.twice("coalesce", path, *self.key)
        self.run("modify", "-n", above, "-p", parent)
        os.unlink(path)
        self.chain[k - 1][1] = disk
        del self.chain[k]

    def flatten(self):
        """One image with all of it, of another block size."""
        path, disk = self.leaf()
        new = self.new()
        self.run("convert", path, new, "--to", "dynamic", "--block-size", self.r.choice(["4K", "16K", "256K", "2M"]), *self.key)
        self.key = []
        for old, _ in self.chain:
            os.unlink(old)
        self.chain = [[new, disk]]

    def copy(self):
        path, disk = self.leaf()
        new = self.new()
        self.run("copy", path, new)
        os.unlink(path)
        self.leaf()[0] = new

    def move(self):
        """A parent gets another name; the child is told, or finds it."""
        if len(self.chain) < 2:
            return
        k = self.r.randrange(len(self.chain) - 1)
        folder = self.r.choice([self.dir, os.path.join(self.dir, "x" * self.r.randrange(1, 200))])
        os.makedirs(folder, exist_ok=True)
        new = self.new(folder)
        os.rename(self.chain[k][0], new)
        self.chain[k][0] = new
        if k:  # its own parent is elsewhere from there
            self.run("modify", "-n", new, "-p", self.chain[k - 1][0])
        child = self.chain[k + 1][0]
        if self.r.random() < 0.5:
            self.run("modify", "-n", child, "-p", new)
        else:
            self.run("relink", child, folder)

    def rebase(self):
        """The leaf onto another of its ancestors."""
        if len(self.chain) < 3:
            return
        k = self.r.randrange(len(self.chain) - 2)
        if any(len(c[1]) > len(self.leaf()[1]) for c in self.chain):
            return
        path, disk = self.leaf()
        self.twice("rebase", path, self.chain[k][0], *self.key)
        for old, _ in self.chain[k + 1 : -1]:
            os.unlink(old)
        self.chain = self.chain[: k + 1] + [[path, disk]]

    def delta(self):
        """What changed since an ancestor, as a file; under that it is the leaf."""
        if len(self.chain) < 2:
            return
        k = self.r.randrange(len(self.chain) - 1)
        path, disk = self.leaf()
        new = self.new()
        delta = os.path.join(self.dir, "delta")
        self.run("delta", "create", self.chain[k][0], path, "-o", delta, *self.key)
        self.run("delta", "apply", delta, self.chain[k][0], new)
        os.unlink(delta)  # it is a child, too
        for old, _ in self.chain[k + 1 :]:
            os.unlink(old)
        self.chain = self.chain[: k + 1] + [[new, disk]]

    def archive(self):
        folder = os.path.join(self.dir, f"imported{self.names}")
        self.names += 1
        tar = os.path.join(self.dir, "a.tar")
        self.run("export", self.leaf()[0], "-o", tar, "--force")
        self.run("import", tar, folder)
        old = [c[0] for c in self.chain]
        names = [os.path.join(folder, os.path.basename(p)) for p in old]
        if not all(os.path.exists(n) for n in names):
            self.die(f"imported: {os.listdir(folder)}, exported: {old}")
        for p in old:
            os.unlink(p)
        for c, n in zip(self.chain, names):
            c[0] = n

    def wreck(self):
        """Metadata that is there twice is lost once, and mended."""
        path = self.r.choice(self.chain)[0]
        before = open(path, "rb").read()
        with open(path, "r+b") as f:
            f.seek(self.r.choice([0, len(before) - 512]))
            f.write(bytes(512))
        saved = os.path.join(self.dir, f"saved{self.names}")
        self.names += 1
        self.run("repair", path, "--backup", saved, *self.r.choice([[], ["--dry-run"]]))
        if not os.path.exists(saved):
            self.run("repair", path, "--backup", saved)
        after = open(path, "rb").read()
        if len(after) != len(before):
            self.die(f"repair: {path} has {len(after)} bytes instead of {len(before)}")
        os.unlink(saved)

    def half(self):
        """A merge that was begun: what it needs to be finished is not let go."""
        if len(self.chain) < 2:
            return
        (parent, below), (path, disk) = self.chain[-2], self.chain[-1]
        self.run("coalesce", path, *self.key, kill=True, ok=(0, 34))
        if not os.path.exists(parent + ".coalesce"):
            got = self.content(parent)  # done, or not begun
            want = bytearray(max(len(below), len(disk)))
            want[: len(below)] = below
            want[: len(disk)] = disk
            if got not in (below, want, want[: len(below)]):
                self.die("a merge left no note, and a mix")
            self.chain[-2][1] = bytearray(got)
            return
        other = self.new()
        self.run("create", "-n", other, "-s", "8")
        for refused in (["modify", "-n", path, "-z"], ["modify", "-n", parent, "-z"], ["modify", path, "-p", other],
                        ["rebase", path, other, *self.key], ["salvage", parent, other, "--force"],
                        ["convert", parent, other, "--force", *self.key]):
            self.run(*refused, ok=(16,))
        os.unlink(other)
        self.expect(len(self.chain) - 1, "half merged")
        self.merge()
        if os.path.exists(parent + ".coalesce"):
            self.chain[-2][1] = None  # merge() left it alone: finish, and take what there is
            self.run("coalesce", path, *self.key)
            self.chain[-2][1] = bytearray(self.content(parent))

    def salvage(self):
        """A sound image is all there."""
        path = self.leaf()[0]
        new = self.new()
        self.run("salvage", path, new, ok=(0, 117))  # a kill may have left blocks that nobody names
        os.unlink(path)
        self.leaf()[0] = new

    def empty(self):
        path, disk = self.leaf()
        self.twice("modify", "-n", path, "-z")
        below = self.chain[-2][1] if len(self.chain) > 1 else b""
        new = bytearray(len(disk))
        n = min(len(below), len(disk))
        new[:n] = below[:n]
        self.leaf()[1] = new

    def play(self):
        weights = [(self.write, 30), (self.snapshot, 10), (self.resize, 6), (self.resize_killed, 6), (self.compact, 6),
                   (self.optimize, 3), (self.fill, 1), (self.merge, 5), (self.merge_below, 4), (self.flatten, 1),
                   (self.copy, 2), (self.move, 3), (self.rebase, 3), (self.delta, 3), (self.archive, 1), (self.wreck, 3),
                   (self.half, 4), (self.salvage, 2), (self.empty, 1)]
        for _ in range(self.r.randrange(10, 40)):
            step = self.r.choices([w[0] for w in weights], [w[1] for w in weights])[0]
            step()
            self.expect(len(self.chain) - 1, step.__name__)
        for k in range(len(self.chain)):
            self.expect(k, "in the end")
        if self.own:
            subprocess.run(["umount", self.dir], check=True)
        shutil.rmtree(self.dir)
        return len(self.log), self.kills, self.fulls


commands = kills = fulls = 0
print(f"seeds {SEED} to {SEED + COUNT - 1}; repeat one with SEED=n COUNT=1")
for seed in range(SEED, SEED + COUNT):
    n, k, f = World(seed).play()
    commands += n
    kills += k
    fulls += f
print(f"{COUNT} worlds, {commands} commands, {kills} of them killed, {fulls} with a full disk: all as expected")
if COUNT >= 10 and not kills:
    sys.exit("no command was killed")
if COUNT >= 20 and "OWN_MOUNTS" in os.environ and not fulls:
    sys.exit("no disk was full")
