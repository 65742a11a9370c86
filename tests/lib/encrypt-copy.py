#!/usr/bin/env python3
"""encrypt-copy.py SRC DST KEY - an encrypted image as XenServer's `vhd-util copy -k` leaves it

Made from what the sources of that command do, with nothing of this project: the AES is
openssl's block cipher, XTS is built of it here.  What it does differently from us, on purpose:
the nonce is zero; every block is written whole, so that all its bits are set; sectors that
were not there before are stored as they were read, as zeros that are no ciphertext.
SRC: a clear dynamic image with a batmap, that nobody has open.  KEY: a file of 32 or 64 bytes.
"""
import hashlib
import struct
import subprocess
import sys

SECTOR = 512


def aes(key, data):
    """AES of each 16 bytes for itself."""
    name = "aes-%d-ecb" % (len(key) * 8)
    done = subprocess.run(["openssl", "enc", "-e", "-" + name, "-nopad", "-K", key.hex()],
                          input=data, stdout=subprocess.PIPE, check=True)
    return done.stdout


def tweaks(key, sectors):
    """Those of the 32 pieces of each sector, as numbers."""
    # the makers' tweak: 32 bits of the sector's number, then zeros
    first = aes(key, b"".join(struct.pack("<I12x", s & 0xffffffff) for s in sectors))
    for at in range(0, len(first), 16):
        t = int.from_bytes(first[at:at + 16], "little")
        for _ in range(SECTOR // 16):
            yield t
            t = (t << 1) ^ (0x87 | 1 << 128 if t >> 127 else 0)


def xts(key, sectors, data):
    half = len(key) // 2
    masks = b"".join(t.to_bytes(16, "little") for t in tweaks(key[half:], sectors))

    def mask(text):
        n = int.from_bytes(text, "big") ^ int.from_bytes(masks, "big")
        return n.to_bytes(len(text), "big")
    return mask(aes(key[:half], mask(data))) if data else b""


def main(source, target, key_file):
    key = open(key_file, "rb").read()
    image = bytearray(open(source, "rb").read())
    header = struct.unpack(">Q", image[16:24])[0]
    table, = struct.unpack_from(">Q", image, header + 16)
    entries, block_bytes = struct.unpack_from(">II", image, header + 28)
    per_block = block_bytes // SECTOR
    bitmap_bytes = -(-per_block // (8 * SECTOR)) * SECTOR
    bat = struct.unpack_from(">%dI" % entries, image, table)
    batmap_header = table + -(-entries * 4 // SECTOR) * SECTOR
    assert image[batmap_header:batmap_header + 8] == b"tdbatmap"
    batmap, batmap_sectors, version = struct.unpack_from(">QII", image, batmap_header + 8)
    assert version == 0x00010002

    places, numbers = [], []
    for block, entry in enumerate(bat):
        if entry == 0xffffffff:
            continue
        at = entry * SECTOR
        for i in range(per_block):
            place = at + bitmap_bytes + i * SECTOR
            # of an image by those makers what was never written has no bit
            if image[at + i // 8] & 0x80 >> i % 8 and any(image[place:place + SECTOR]):
                places.append(place)
                numbers.append(block * per_block + i)
        image[at:at + per_block // 8] = b"\xff" * (per_block // 8)
        image[batmap + block // 8] |= 0x80 >> block % 8
    clear = b"".join(bytes(image[p:p + SECTOR]) for p in places)
    secret = xts(key, numbers, clear)
    for n, p in enumerate(places):
        image[p:p + SECTOR] = secret[n * SECTOR:(n + 1) * SECTOR]

    covered = min(-(-entries // 8), batmap_sectors * SECTOR)
    total = ~sum(image[batmap:batmap + covered]) & 0xffffffff
    struct.pack_into(">I", image, batmap_header + 24, total)
    nonce = bytes(32)
    image[batmap_header + 29:batmap_header + 94] = b"\1" + nonce + hashlib.sha256(nonce + key).digest()
    open(target, "wb").write(image)


main(*sys.argv[1:])
