#!/bin/bash
# repair: every fixture. What check calls repairable is mended and the rest is not, a dry run says the
# same and changes nothing, a second run finds nothing to do, undo gives the bytes back; and
# with every consent given other readers agree on what is there
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
need python3
dir=$T
[ ! -d /dev/shm ] || dir=$(mktemp -d /dev/shm/vhd-test.XXXXXX)
at_exit "rm -rf '$dir'"
cd "$dir" || exit 1

cat >play.py <<'PY'
import glob, json, os, shutil, subprocess, sys
u, flat, fixtures = sys.argv[1:4]
stride = int(sys.argv[4])
sys.path.insert(0, fixtures)
sys.dont_write_bytecode = True
from make import CASES, make
ELSEWHERE = ("parent-missing", "parent-id", "parent-denied", "cycle", "too-deep", "coalescing",
             "EACCES", "not-file", "ELOOP", "locked")
tried = list(CASES.items())[::stride]
mended = other_readers = 0

def run(*args):
    return subprocess.run([u, *args], capture_output=True, timeout=60)

def look(path):
    out = run("check", "-b", "-t", "--json", path).stdout
    found = json.loads(out)["findings"] if out else []
    found = [f for f in found if f["file"] == path and f["code"] not in ELSEWHERE
             and not f["text"].startswith("parent of")]
    return [f for f in found if f["severity"] == "damage"], [f for f in found if f["repairable"]]

def content(path):
    with open(path, "rb") as f:
        return f.read()

def repair(case, path, *options):
    """Exit status and JSON, with all that must hold whatever the options."""
    before = content(path)
    dry = run("repair", path, "--dry-run", "--json", *options)
    assert content(path) == before, f"{case}: the dry run changed something"
    done = run("repair", path, "--json", *options)
    assert done.returncode == dry.returncode, (case, options, done, dry)
    assert done.returncode in (0, 117, 16, 95, 2, 13), (case, done)
    if not done.stdout:
        assert done.stderr.count(b"\n") == 1, (case, done)
        assert content(path) == before, f"{case}: refused, but changed"
        return done.returncode, None
    j, d = json.loads(done.stdout), json.loads(dry.stdout)
    with open(f"{len(os.listdir('.'))}.json", "wb") as f:
        f.write(done.stdout)
    for key in ("changes", "lost", "remaining", "valid"):
        assert j[key] == d[key], (case, options, key, j[key], d[key])
    assert (done.returncode == 0) == j["valid"], (case, j)
    assert bool(j["backup"]) == bool(j["changes"]) and not d["backup"], (case, j)
    again = run("repair", path, "--json", *options)
    assert not json.loads(again.stdout)["changes"], f"{case} {options}: the second run: {again.stdout}"
    assert again.returncode == done.returncode
    if j["backup"]:
        after = content(path)
        assert run("repair", path, "--undo", j["backup"]).returncode == 0, case
        assert content(path) == before, f"{case}: undo gives other bytes"
        with open(path, "r+b") as f:
            f.write(after)
            f.truncate(len(after))
    return done.returncode, j

def others(case, path, what):
    """What 7-Zip and qemu-img read of a dynamic image that is valid now."""
    global other_readers
    run("convert", "--force", path, "ours.raw")
    ours = content("ours.raw")
    if shutil.which("qemu-img"):
        q = subprocess.run(["qemu-img", "convert", "-f", "vpc", "-O", "raw", path, "q.raw"], capture_output=True)
        assert q.returncode == 0 and content("q.raw")[:len(ours)] == ours, (case, what, q)
    if shutil.which("7zz"):
        z = subprocess.run(["7zz", "x", "-tvhd", "-so", path], capture_output=True)
        assert z.returncode == 0 and z.stdout == ours, (case, what, z.stderr)
    other_readers += 1

for name, case in tried:
    shutil.rmtree("case", ignore_errors=True)
    path = make(case, "case")[0]
    if os.path.getsize(path) > 64 << 20:
        continue
    damages, repairable = look(path)
    was = content(path)
    status, j = repair(name, path)
    left, still = look(path)
    if status in (0, 117) and j:
        assert not still, f"{name}: repairable, and still there: {still}"
        assert len(left) == len([f for f in j["remaining"] if f["severity"] == "damage"]), (name, left, j)
        if not repairable:
            assert not j["changes"], (name, j["changes"])
        assert not j["lost"], (name, j["lost"])
        mended += bool(repairable)
    else:
        assert not repairable, f"{name}: {repairable}, but {status}"
    with open(path, "wb") as f:
        f.write(was)
    status, j = repair(name, path, "--drop-lost", "--keep-unmarked", "--trim", "--end-footer")
    left, _ = look(path)
    assert (status == 0) == (not left), (name, status, left)
    if status == 0 and j["changes"]:
        info = json.loads(run("info", "--json", path).stdout)
        # 7-Zip and qemu go by other sizes and bytes there
        if info["format"] == "dynamic" and not any(w in name for w in ("reserved", "hidden", "saved", "spare")):
            others(name, path, [c["text"] for c in j["changes"]])
print(f"{len(tried)} fixtures: {mended} mended, {other_readers} read by others")
assert mended * stride > 10 and other_readers * stride > 10
PY
python3 play.py "$U" "$TOOLS/flat" "$root/fixtures" "$(stride 3)" || fail "fixtures"
check_schema ./*.json
rm -rf ./*.json case

# words
"$U" create -n a.vhd -s 16
head -c 3000000 /dev/urandom | "$U" write a.vhd --offset 0
cp a.vhd good.vhd
check_out 'a.vhd is valid: nothing to repair' "$U" repair a.vhd
check_out 'a.vhd is valid: nothing to repair' "$U" repair -n a.vhd -b
[ "$(echo ./*.repair-*)" = './*.repair-*' ] || fail "a file was left for nothing"
dd if=/dev/zero of=a.vhd bs=512 count=1 conv=notrunc status=none
check_status 0 "$U" repair -n a.vhd --backup kept
cmp a.vhd good.vhd || fail "not as it was"
grep -q "undo: vhd-util repair -n 'a.vhd' --undo 'kept'" "$T/.out" || fail "no way back: $(cat "$T/.out")"
dd if=/dev/zero of=a.vhd bs=512 count=1 conv=notrunc status=none
check_status 117 "$U" repair -n a.vhd -b
check_err 'no valid one at the start'
check_status 17 "$U" repair -n a.vhd --backup kept
cmp <(tail -c +513 a.vhd) <(tail -c +513 good.vhd) || fail "refused, but changed"
check_status 22 "$U" repair a.vhd -b --end-footer
check_status 22 "$U" repair a.vhd --owner x
check_status 22 "$U" repair
check_status 2 "$U" repair none.vhd
check_status 22 "$U" repair a.vhd --undo good.vhd
check_err 'none that a repair left'
check_status 2 "$U" repair a.vhd --undo none
# used since: new blocks would be lost
cp good.vhd used.vhd
dd if=/dev/zero of=used.vhd bs=512 count=1 conv=notrunc status=none
check_status 0 "$U" repair used.vhd --backup was
head -c 3000000 /dev/urandom | "$U" write used.vhd --offset 6M || fail "write"
cp used.vhd same.vhd
check_status 22 "$U" repair used.vhd --undo was
check_err 'has grown since'
cmp used.vhd same.vhd || fail "refused, but changed"
# also where it did not grow: a sector that was mended has changed
cp good.vhd used.vhd
dd if=/dev/zero of=used.vhd bs=512 count=1 conv=notrunc status=none
cp used.vhd damaged.vhd
check_status 0 "$U" repair used.vhd --backup was2
cp used.vhd mended.vhd
check_status 0 "$U" repair used.vhd --undo was2
cmp used.vhd damaged.vhd || fail "undo"
check_status 0 "$U" repair used.vhd --undo was2 # as a run that was cut off is finished
cmp used.vhd damaged.vhd || fail "undo of an undo"
cp mended.vhd used.vhd
"$U" set -n used.vhd -f hidden -v 1 && cp used.vhd same.vhd || fail "set"
check_status 22 "$U" repair used.vhd --undo was2
check_err 'was written to since'
cmp used.vhd same.vhd || fail "refused, but changed"
# or what was cut off is in use again
"$U" create -n tail.vhd -s 16 --block-size 4K && head -c 30000 /dev/urandom | "$U" write tail.vhd --offset 0 || fail make
{ cat tail.vhd && head -c 60000 /dev/urandom; } >used.vhd
cp used.vhd damaged.vhd
check_status 0 "$U" repair used.vhd --trim --backup was3
cmp used.vhd tail.vhd || fail "trim"
check_status 0 "$U" repair used.vhd --undo was3 --dry-run
cmp used.vhd tail.vhd || fail "a dry run wrote"
check_status 0 "$U" repair used.vhd --undo was3
cmp used.vhd damaged.vhd || fail "undo of a cut"
cp tail.vhd used.vhd
head -c 3000 /dev/urandom | "$U" write used.vhd --offset 9M && cp used.vhd same.vhd || fail "write"
[ "$(stat -c %s used.vhd)" -lt "$(stat -c %s damaged.vhd)" ] || fail "it is larger"
check_status 22 "$U" repair used.vhd --undo was3 --dry-run
check_status 22 "$U" repair used.vhd --undo was3
check_err 'was written to since'
cmp used.vhd same.vhd || fail "refused, but changed"
check_status 2 "$U" repair a.vhd --parent none.vhd
chmod a-w a.vhd
[ "$(id -u)" = 0 ] || check_status 13 "$U" repair a.vhd
chmod u+w a.vhd

# a bit of a child's header: mended, or told; never a header that names an image nobody has
cat >bits.py <<'PY'
import os, subprocess, sys
u, stride = sys.argv[1], int(sys.argv[2])
def run(*args):
    return subprocess.run([u, *args], capture_output=True, timeout=60)
def content(path):
    with open(path, "rb") as f:
        return f.read()
def repaired(byte, bit, *options):
    """The child with that bit of its header wrong, repaired: status, and what it was damaged to."""
    wrong = bytearray(good)
    wrong[512 + byte] ^= 1 << bit
    with open("child.vhd", "wb") as f:
        f.write(wrong)
    findings = run("check", "child.vhd", "--json").stdout
    status = run("repair", "child.vhd", "--backup", "bits-kept", *options).returncode
    if os.path.exists("bits-kept"):
        os.remove("bits-kept")
    if not options:
        assert (b'"repairable": true' in findings) == (status == 0), (byte, bit, status, findings)
    return status, wrong
good, disk = content("child.vhd"), run("read", "child.vhd", "-r", "0", "-c", "4096").stdout
ID = range(40, 56)
for byte in [*ID, *range(36, 40), *range(56, 64), 20, 30, 35, 64, 65, 90, 575, 576, 580, 600, 1000][::stride]:
    for bit in (byte % 8, 7 - byte % 8):
        status, wrong = repaired(byte, bit)
        if byte in ID or byte in range(56, 60) or byte in range(64, 100):
            assert status == 0 and content("child.vhd") == good, (byte, bit, status)
        elif status == 0:
            assert run("check", "-p", "child.vhd").returncode == 0, (byte, bit)
            assert run("read", "child.vhd", "-r", "0", "-c", "4096").stdout == disk, (byte, bit)
        else:
            assert status == 117 and content("child.vhd") == wrong, (byte, bit, status)
# all of the id: it could be any other image's
wrong = bytearray(good)
wrong[512 + 40:512 + 56] = os.urandom(16)
with open("child.vhd", "wb") as f:
    f.write(wrong)
assert run("repair", "child.vhd").returncode == 117 and content("child.vhd") == wrong
assert run("repair", "child.vhd", "--parent", "parent.vhd", "--backup", "bits-kept").returncode == 0
assert content("child.vhd") == good
os.remove("bits-kept")
# the parent is away: nobody can tell, until it is named
os.rename("parent.vhd", "away.vhd")
for other in (False, True):
    if other: # another image has its name
        run("create", "-n", "parent.vhd", "-s", "16")
    for byte in (41, 50):
        status, wrong = repaired(byte, 3)
        assert status == 117 and content("child.vhd") == wrong, (byte, other, status)
        said = run("repair", "child.vhd")
        assert said.returncode == 117 and b"name it: --parent FILE" in said.stdout + said.stderr, said
        assert run("salvage", "child.vhd", "saved.vhd").returncode == 117
        status, wrong = repaired(byte, 3, "--parent", "away.vhd")
        assert content("child.vhd") == good, (byte, other, status)
os.rename("away.vhd", "parent.vhd")
# salvage by the same proof
_, wrong = repaired(45, 1)
with open("child.vhd", "wb") as f:
    f.write(wrong)
assert run("salvage", "child.vhd", "saved.vhd").returncode == 0
assert run("read", "saved.vhd", "-r", "0", "-c", "4096").stdout == disk
# a raw parent has no id: all zeros
os.rename("raw-child.vhd", "child.vhd")
good = content("child.vhd")
for byte in ID[::stride]:
    status, wrong = repaired(byte, 5)
    assert status == 0 and content("child.vhd") == good, (byte, status)
PY
"$U" create -n parent.vhd -s 16
head -c 3000000 /dev/urandom | "$U" write parent.vhd --offset 0
"$U" snapshot -n child.vhd -p parent.vhd
head -c 300000 /dev/urandom | "$U" write child.vhd --offset 1M || fail make
truncate -s 16M raw.img && head -c 300000 /dev/urandom | dd of=raw.img conv=notrunc status=none
"$U" snapshot -n raw-child.vhd -p raw.img -m || fail make
python3 bits.py "$U" "$(stride 3)" || fail "bits of a child's header"

# the copy at the start is lost, and bytes follow the footer at the end: it is found
"$U" snapshot -n stray-child.vhd -p parent.vhd && head -c 300000 /dev/urandom | "$U" write stray-child.vhd --offset 1M || fail make
for f in good stray-child; do
	for more in 512 1000 3000000; do
		{ cat $f.vhd && head -c $more /dev/urandom; } >stray.vhd
		dd if=/dev/zero of=stray.vhd bs=512 count=1 conv=notrunc status=none
		cp stray.vhd damaged.vhd
		check_status 117 "$U" check stray.vhd
		rm -f saved.vhd
		check_status 0 "$U" salvage stray.vhd saved.vhd
		check_status 0 "$U" compare saved.vhd $f.vhd
		cmp stray.vhd damaged.vhd || fail "salvage wrote to its source"
		check_status 0 "$U" repair stray.vhd --backup stray-kept
		check_status 0 "$U" check stray.vhd
		check_status 0 "$U" compare stray.vhd $f.vhd
		cmp -n 512 stray.vhd $f.vhd || fail "another footer: $f, $more bytes more"
		check_status 0 "$U" repair stray.vhd --undo stray-kept
		cmp stray.vhd damaged.vhd || fail "undo"
		rm stray-kept
		check_status 0 "$U" repair stray.vhd --trim --backup stray-kept
		cmp stray.vhd $f.vhd || fail "trim: $f, $more bytes more"
		rm stray-kept
	done
	# one that a guest wrote is none of the image, though it leads to a whole header
	cp $f.vhd stray.vhd
	python3 - <<'END' || fail make
b = bytearray(open("stray.vhd", "rb").read())
forged = bytearray(b[:512])
forged[68:84] = bytes(range(16))
forged[64:68] = bytes(4)
forged[64:68] = (~sum(forged) & 0xffffffff).to_bytes(4, "big")
end = len(b) - 512
data = (end - 512) // 512 * 512
while b[data:data + 512] == bytes(512): # the last sector with data
    data -= 512
b[data:data + 512] = forged
b[end:], b[:512] = bytes(512), bytes(512)
open("stray.vhd", "wb").write(b)
END
	cp stray.vhd damaged.vhd
	check_status 117 "$U" repair stray.vhd
	check_status 117 "$U" salvage stray.vhd none.vhd
	cmp stray.vhd damaged.vhd || fail "a guest's footer was believed"
done

# a footer, and nothing else, is lost to a full disk: the image is as it was
need unshare mount
[ "$(id -u)" = 0 ] || exit 0
unshare -m true 2>/dev/null || exit 0
cat >full.sh <<SH
set -e
mount -t tmpfs -o size=4M none '$dir/full'
cd '$dir/full'
cp ../good.vhd a.vhd
dd if=/dev/zero of=a.vhd bs=512 seek=1 count=1 conv=notrunc status=none
cp a.vhd ../damaged.vhd
dd if=/dev/zero of=fill bs=4096 status=none 2>/dev/null || true
status=0
'$U' repair a.vhd >out 2>../err || status=\$?
[ \$status = 28 ] || { echo "status \$status: \$(cat ../err)"; exit 1; }
cmp a.vhd ../damaged.vhd
[ ! -e a.vhd.repair-* ] || exit 1
'$U' repair a.vhd --backup ../elsewhere >/dev/null
cmp a.vhd ../good.vhd
SH
mkdir full
unshare -m sh full.sh || fail "full disk"
exit 0
