"""images.py - files that benchmarks start from"""
import os
import struct
import subprocess

from contest import BIN


def vhd_util(*args):
    subprocess.run([os.path.join(BIN, "vhd-util"), *args], check=True, stdout=subprocess.DEVNULL)


def random_file(name, mib):
    with open(name, "wb") as f:
        for _ in range(mib):
            f.write(os.urandom(1 << 20))


def full_image(name, gib):
    """Every block allocated; sparse, so small."""
    vhd_util("create", "-n", name, "--size", f"{gib}G")
    with open(name, "r+b") as f:
        head = f.read(1536)
        table, entries = struct.unpack(">Q", head[528:536])[0], struct.unpack(">I", head[540:544])[0]
        f.seek(-512, 2)
        first = (f.tell() // 512 + 8) // 8 * 8 + 7
        f.seek(table)
        f.write(b"".join(struct.pack(">I", first + i * 4104) for i in range(entries)))
        f.seek((first + entries * 4104) * 512)
        f.write(head[:512])
