#!/bin/bash
# salvage: every fixture, with and without guesses: the source is untouched, a target is sound, what is
# neither lost nor guessed is what the source reads as; qemu's images; what is refused
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
need python3
dir=$T
[ ! -d /dev/shm ] || dir=$(mktemp -d /dev/shm/vhd-test.XXXXXX)
at_exit "rm -rf '$dir'"
cd "$dir" || exit 1

cat >play.py <<'PY'
import json, os, shutil, subprocess, sys
u, fixtures = sys.argv[1:3]
stride = int(sys.argv[3])
sys.path.insert(0, fixtures)
sys.dont_write_bytecode = True
from make import CASES, make
tried = list(CASES.items())[::stride]
whole = partly = refused = 0

def run(*args):
    return subprocess.run([u, *args], capture_output=True, timeout=60)

def content(path):
    with open(path, "rb") as f:
        return f.read()

for name, case in tried:
    shutil.rmtree("case", ignore_errors=True)
    path = make(case, "case")[0]
    if os.path.getsize(path) > 64 << 20 or name == "parent-too-deep":
        continue
    was = content(path)
    for options in ([], ["--guess"]):
        done = run("salvage", path, "case/new.vhd", "--force", "--json", *options)
        assert content(path) == was, f"{name}: the source changed"
        assert done.returncode in (0, 117, 16, 95), (name, done)
        if not done.stdout:
            assert done.returncode and done.stderr.count(b"\n") == 1, (name, done)
            assert not os.path.exists("case/new.vhd"), f"{name}: refused, but made"
            refused += 1
            continue
        j = json.loads(done.stdout)
        with open(f"{len(os.listdir('.'))}.json", "wb") as f:
            f.write(done.stdout)
        assert (done.returncode == 0) == (not j["lost"] and not j["size_guessed"]), (name, j)
        assert sum(l["length"] for l in j["lost"] if not l["guessed"]) == j["lost_bytes"], (name, j)
        for l in j["lost"]:
            assert l["start"] + l["length"] <= j["virtual_size"], (name, l)
        check = json.loads(run("check", "-b", "-t", "--json", "case/new.vhd").stdout)
        bad = [f for f in check["findings"] if f["severity"] == "damage" and not f["code"].startswith("parent")
               and f["code"] not in ("cycle", "EACCES", "not-file", "ELOOP", "locked")
               and not f["text"].startswith("parent of") and f["file"] == "case/new.vhd"]
        assert not bad, (name, options, bad)
        if j["virtual_size"] > 64 << 20:
            os.unlink("case/new.vhd")
            continue
        if case.read == 0 and case.flat and run("convert", "--force", "case/new.vhd", "new.raw").returncode == 0:
            flat, new = case.flat(), content("new.raw")
            at = 0
            for l in j["lost"] + [dict(start=len(flat), length=0)]:
                assert new[at:l["start"]] == flat[at:l["start"]], f"{name}: {options}: before {l}"
                at = l["start"] + l["length"]
            whole += not j["lost"]
            partly += bool(j["lost"])
        os.unlink("case/new.vhd")
print(f"{len(tried)} fixtures: {whole} whole, {partly} partly, {refused} times refused")
assert whole * stride > 50 and refused
PY
python3 play.py "$U" "$root/fixtures" "$(stride 3)" || fail "fixtures"
check_schema ./*.json
rm -rf ./*.json case

# words
"$U" create -n a.vhd -s 16
head -c 3000000 /dev/urandom | "$U" write a.vhd --offset 0
check_status 22 "$U" salvage a.vhd
check_status 22 "$U" salvage
check_status 22 "$U" salvage a.vhd b.vhd c.vhd
check_status 22 "$U" salvage a.vhd b.vhd -b --end-footer
check_status 2 "$U" salvage none.vhd b.vhd
check_status 22 "$U" salvage a.vhd a.vhd --force
check_err 'into itself'
check_status 0 "$U" salvage a.vhd b.vhd --dry-run
[ ! -e b.vhd ] || fail "a dry run made something"
check_status 0 "$U" salvage -n a.vhd b.vhd
check_status 0 "$U" compare a.vhd b.vhd
[ "$("$U" info --json a.vhd | grep -m1 -o '"id": *"[^"]*"')" = "$("$U" info --json b.vhd | grep -m1 -o '"id": *"[^"]*"')" ] || fail "another id"
check_status 17 "$U" salvage a.vhd b.vhd
check_err '--force'
"$U" create -n fixed.vhd -s 2 -r
head -c 30000 /dev/urandom | "$U" write fixed.vhd --offset 5000
check_status 0 "$U" salvage fixed.vhd f.vhd
cmp fixed.vhd f.vhd || fail "another fixed image"

# what children name is found from another directory
"$U" snapshot -n child.vhd -p a.vhd
echo more | "$U" write child.vhd --offset 9
mkdir sub
check_status 0 "$U" salvage child.vhd sub/new.vhd
check_status 0 "$U" compare child.vhd sub/new.vhd

# full disk: nothing is left
if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
	mkdir full
	unshare -m sh -c "mount -t tmpfs -o size=1M none full && status=0
		'$U' salvage a.vhd full/b.vhd 2>err || status=\$?
		[ \$status = 28 ] && [ -z \"\$(ls -A full)\" ]" || fail "full disk: $(cat err)"
fi

# a block that is found again is none that nobody names
"$U" create -n three.vhd -s 8 && head -c 6M /dev/urandom | "$U" write three.vhd --offset 0 || fail make
python3 - <<'END' || fail "entry"
f = open("three.vhd", "r+b")
f.seek(1536 + 4)
f.write(b"\x7f\xff\xff\xf0")
END
rm -f found.vhd
check_status 0 "$U" salvage three.vhd found.vhd --json
grep -q '"unnamed_blocks": 0' "$T/.out" || fail "a found block: $(cat "$T/.out")"
check_status 0 "$U" repair three.vhd
check_status 0 "$U" compare three.vhd found.vhd

# a device: its old contents do not show, its footer is at its end, and what is changed is kept aside
truncate -s 8M dev.img
if [ "$(id -u)" = 0 ] && loop=$(losetup -f --show dev.img 2>/dev/null); then
	at_exit "losetup -d $loop"
	head -c 8M /dev/urandom >"$loop"
	check_status 0 "$U" salvage a.vhd "$loop"
	check_out "$loop is valid" "$U" check -b "$loop"
	check_status 0 "$U" compare a.vhd "$loop"
	dd if=/dev/zero of="$loop" bs=512 seek=16383 count=1 conv=notrunc status=none
	check_status 0 "$U" repair "$loop" --backup kept
	check_out "$loop is valid" "$U" check -b "$loop"
	check_status 0 "$U" repair "$loop" --undo kept
	check_status 117 "$U" check "$loop"
	check_status 0 "$U" salvage "$loop" again.vhd
	check_status 0 "$U" compare a.vhd again.vhd
fi

need qemu-img qemu-io 7zz
qemu-img create -q -f vpc q.vhd 64M >/dev/null
qemu-io -f vpc -c 'write -P 17 0 4k' -c 'write -P 34 9M 5M' -c 'write -P 51 40M 64k' q.vhd >/dev/null
qemu-img convert -f vpc -O raw q.vhd want.raw
for sector in 0 1 2 4; do
	cp q.vhd w.vhd
	dd if=/dev/urandom of=w.vhd bs=512 seek=$sector count=1 conv=notrunc status=none
	check_status 0 "$U" salvage w.vhd n.vhd --force
	qemu-img convert -f vpc -O raw n.vhd got.raw || fail "qemu-img"
	cmp want.raw got.raw || fail "sector $sector: other contents"
	7zz x -tvhd -so n.vhd 2>/dev/null | cmp - want.raw || fail "sector $sector: 7-Zip reads other contents"
done
exit 0
