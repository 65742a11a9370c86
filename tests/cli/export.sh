#!/bin/bash
# export, import: a whole chain as one stream
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
cd "$T" || exit 1
noise() { head -c "$1" /dev/urandom; }

# a chain over three directories, two files of one name
mkdir a b
"$U" create -n a/base.vhd -s 32
noise 3000000 | "$U" write a/base.vhd --offset 5M
"$U" snapshot -n b/base.vhd -p a/base.vhd
noise 100000 | "$U" write b/base.vhd --offset 100000
"$U" snapshot -n leaf.vhd -p b/base.vhd
noise 1000 | "$U" write leaf.vhd --offset 20000000
"$U" convert leaf.vhd want.raw
before=$(sha256sum a/base.vhd b/base.vhd leaf.vhd)
right() { # DIRECTORY
	"$U" compare "$1/leaf.vhd" want.raw || fail "$1: contents"
	"$U" check "$1/leaf.vhd" -p -b >.out || fail "$1: check: $(cat .out)"
	[ -z "$(find . -maxdepth 1 -name '.*.??????' -type d)" ] || fail "left: $(ls -A)"
}

check_status 0 "$U" export leaf.vhd -o all.tar --json
cp .out export.json
check_status 0 "$U" import all.tar one --json
cp .out import.json
right one
check_schema export.json import.json
check_out "$T/one/base.vhd" "$U" query -n one/leaf.vhd -p
[ "$(find one | wc -l)" = 4 ] || fail "files: $(ls one)"
id() { "$U" info "$1" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["id"])'; }
[ "$(id one/leaf.vhd)" = "$(id leaf.vhd)" ] || fail "ids"
"$U" query -n one/leaf.vhd -d | grep -q 'depth: 3' || fail "depth"
# tar reads it, and its hash is what it says
mkdir tarred
tar -xf all.tar -C tarred || fail "tar"
read -r hash bytes <tarred/SHA256
[ "$(head -c "$bytes" all.tar | sha256sum | cut -d' ' -f1)" = "$hash" ] || fail "the hash"
cmp tarred/base.vhd b/base.vhd 2>/dev/null || cmp tarred/base.vhd a/base.vhd || fail "tar: contents"
cmp tarred/leaf.vhd leaf.vhd || fail "tar: leaf"

# what is still where the chain came from is not what the new one reads
"$U" snapshot -n b/child.vhd -p a/base.vhd
"$U" export b/child.vhd | "$U" import - apart >.out || fail "apart"
check_out "$T/apart/base.vhd" "$U" query -n apart/child.vhd -p

# names that begin with a dot come out under others
cp a/base.vhd .dot.vhd && "$U" snapshot -n .child.vhd -p .dot.vhd -e
"$U" export .child.vhd | "$U" import - dots >.out || fail "names with dots: $(cat .err)"
[ "$(ls dots | wc -l)" = 2 ] || fail "names with dots: $(ls -A dots)"

# pipes, gzip, the same directory: bytes as they were
mkdir flat
cp a/base.vhd flat/base.vhd
"$U" snapshot -n flat/leaf.vhd -p flat/base.vhd -e
noise 70000 | "$U" write flat/leaf.vhd --offset 1M
"$U" export flat/leaf.vhd --gzip | "$U" import - two >.out || fail "a pipe"
cmp flat/base.vhd two/base.vhd && cmp flat/leaf.vhd two/leaf.vhd || fail "other bytes"
[ "$(stat -c %Y flat/base.vhd)" = "$(stat -c %Y two/base.vhd)" ] || fail "times"
mkdir three
"$U" export flat/leaf.vhd -o x.tgz && "$U" import x.tgz three/ >.out || fail "tgz"
cmp flat/leaf.vhd three/leaf.vhd || fail "tgz: bytes"
# sparse and raw bases: holes stay
truncate -s 300M r.raw
noise 70000 | dd of=r.raw bs=1M seek=150 conv=notrunc status=none
"$U" snapshot -n onraw.vhd -p r.raw -m
noise 700 | "$U" write onraw.vhd --offset 200M
"$U" export onraw.vhd -o raw.tar || fail "raw"
[ "$(stat -c %s raw.tar)" -lt 3000000 ] || fail "holes are sent: $(stat -c %s raw.tar)"
"$U" import raw.tar four >.out || fail "raw: import: $(cat .err)"
cmp r.raw four/r.raw && cmp onraw.vhd four/onraw.vhd || fail "raw: bytes"
[ "$(du -k four/r.raw | cut -f1)" -lt 2000 ] || fail "holes are filled"
rm -rf tarred && mkdir tarred && tar -xf raw.tar -C tarred && cmp tarred/r.raw r.raw || fail "tar: sparse"
"$U" create -n fixed.vhd -s 10 -r && "$U" snapshot -n onfixed.vhd -p fixed.vhd -e
"$U" export onfixed.vhd | "$U" import - five >.out && cmp fixed.vhd five/fixed.vhd || fail "fixed"
[ "$(sha256sum a/base.vhd b/base.vhd leaf.vhd)" = "$before" ] || fail "what was read changed"

# whole or not at all
none() { # WHAT
	[ -e new ] && fail "$1: half a chain"
	[ -z "$(find . -maxdepth 1 -name '.new.*')" ] || fail "$1: left: $(ls -A)"
}
size=$(stat -c %s all.tar)
RANDOM=${SEED:-5}
for cut in 0 1 511 512 1000 1024 2000 $((size / 2)) $((size - 2048)) $((size - 1537)) $((size - 1024)) $((size - 1)); do
	check_status 117 "$U" import - new < <(head -c "$cut" all.tar)
	none "cut at $cut"
done
for ((k = 0; k < 25; k++)); do
	at=$(((RANDOM * 32768 + RANDOM) % (size - 1024)))
	[ $k -lt 10 ] && at=$((k * 60))
	cp all.tar bad
	byte=$(tail -c +$((at + 1)) all.tar | head -c 1 | od -An -tu1)
	printf "\\x$(printf %x $(((byte + 1 + RANDOM % 255) % 256)))" | dd of=bad bs=1 seek=$at conv=notrunc status=none
	check_status 117 "$U" import bad new
	none "byte $at"
done
check_status 117 "$U" import leaf.vhd new
check_status 117 "$U" import /dev/null new
check_status 2 "$U" import none.tar new
check_status 17 "$U" import all.tar one
check_status 17 "$U" import all.tar want.raw
check_status 2 "$U" import all.tar no/such/place
check_status 22 "$U" import all.tar ..
check_status 22 "$U" import all.tar
check_status 17 "$U" export leaf.vhd -o all.tar
check_status 2 "$U" export none.vhd -o x.tar
check_status 0 "$U" import all.tar new --dry-run
none "a dry run"
check_status 0 "$U" export leaf.vhd -o dry.tar --dry-run
[ -e dry.tar ] && fail "a dry run wrote"

# hostile archives, each with a right hash
python3 - <<'P'
import hashlib, io, tarfile
base = open("flat/base.vhd", "rb").read()
leaf = open("flat/leaf.vhd", "rb").read()
def member(name, data=b"", **more):
    def add(t):
        i = tarfile.TarInfo(name)
        i.size = len(data)
        for k, v in more.items():
            setattr(i, k, v)
        t.addfile(i, io.BytesIO(data) if i.isreg() else None)
    return add
def make(file, *adds, format=tarfile.PAX_FORMAT, hash=True):
    b = io.BytesIO()
    t = tarfile.open(fileobj=b, mode="w", format=format)
    for a in adds:
        a(t)
    data = b.getvalue()
    if hash:
        text = f"{hashlib.sha256(data).hexdigest()} {len(data)}\n".encode()
        member("SHA256", text)(t)
    b.write(bytes(1024))
    open(file, "wb").write(b.getvalue())
make("good.tar", member("base.vhd", base), member("leaf.vhd", leaf))
bad = {
    "dotdot": member("../evil.vhd", base), "absolute": member("/tmp/evil.vhd", base),
    "folder": member("x/base.vhd", base), "dot": member(".base.vhd", base), "empty": member("", base),
    "control": member("a\nb.vhd", base), "long": member("n" * 300, base),
    "link": member("base.vhd", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard": member("base.vhd", type=tarfile.LNKTYPE, linkname="leaf.vhd"),
    "device": member("base.vhd", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "pipe": member("base.vhd", type=tarfile.FIFOTYPE), "dir": member("base.vhd", type=tarfile.DIRTYPE),
    "junk": member("base.vhd", b"x" * 5000),
    "other": member("base.vhd", open("fixed.vhd", "rb").read()),
}
for name, add in bad.items():
    make(f"bad-{name}.tar", add, member("leaf.vhd", leaf))
make("bad-twice.tar", member("base.vhd", base), member("base.vhd", base), member("leaf.vhd", leaf))
make("bad-alone.tar", member("leaf.vhd", leaf))
make("bad-order.tar", member("leaf.vhd", leaf), member("base.vhd", base))
make("bad-many.tar", *[member(f"{i}.vhd", b"") for i in range(300)])
make("bad-nohash.tar", member("base.vhd", base), member("leaf.vhd", leaf), hash=False)
make("bad-none.tar")
def sparse(text, real, stored=b""):
    data = text.encode()
    data += bytes(-len(data) % 512) + stored
    return member("base.vhd", data, pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0",
        "GNU.sparse.name": "base.vhd", "GNU.sparse.realsize": str(real)})
for i, (text, real, stored) in enumerate([
    ("1\n0\n100\n", 50, b"x" * 100), ("2\n100\n10\n50\n10\n", 1000, b"x" * 20), ("1\n0\n100\n", 1000, b"x" * 50),
    ("99999999999\n", 1000, b""), ("-1\n", 10, b""), ("1\n18446744073709551615\n2\n", 1000, b"xx"),
    ("x\n", 10, b""), ("1\n0\n1\n", 1 << 63, b"x"), ("1\n0\n" + "9" * 30 + "\n", 1000, b"")]):
    make(f"bad-sparse{i}.tar", sparse(text, real, stored), member("leaf.vhd", leaf))
make("bad-sparse-old.tar", member("base.vhd", base, pax_headers={"GNU.sparse.major": "0", "GNU.sparse.minor": "1"}))
P
check_status 0 "$U" import good.tar six
cmp six/leaf.vhd flat/leaf.vhd || fail "an archive of python"
for f in bad-*.tar; do
	got=0
	"$U" import "$f" new >.out 2>.err || got=$?
	case $got in 117) ;; 2 | 13) [ "$f" = bad-alone.tar ] || fail "$f: status $got" ;; *) fail "$f: status $got" ;; esac
	none "$f"
done
[ -e ../evil.vhd ] || [ -e /tmp/evil.vhd ] && fail "a file outside"

# in use, and no room
mkfifo hold
"$U" write leaf.vhd --offset 0 <hold &
exec 9>hold
sleep 0.3
check_status 16 "$U" export leaf.vhd -o x.tar
exec 9>&-
wait
if mkdir small && mount -t tmpfs -o size=1M none small 2>/dev/null; then
	at_exit "umount '$T/small'"
	check_status 28 "$U" import all.tar small/new
	[ -z "$(ls -A small)" ] || fail "left on a full disk: $(ls -A small)"
	check_status 28 "$U" export leaf.vhd -o small/x.tar
	[ -z "$(ls -A small)" ] || fail "left on a full disk: $(ls -A small)"
fi
exit 0
