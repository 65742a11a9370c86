#!/bin/bash
# scan: the lines that scripts read, trees, JSON, directories, volumes, and what stands in the way
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
need python3
mkdir "$T/w" && cd "$T/w" || exit 1

"$U" create -n base.vhd -s 16 && "$U" snapshot -n mid.vhd -p base.vhd -e &&
	"$U" snapshot -n leaf.vhd -p mid.vhd -e && "$U" set -n base.vhd -f hidden -v 1 &&
	"$U" set -n base.vhd -f marker -v 7 || fail "make"
size() { stat -c %s "$1"; }
base="vhd=base.vhd capacity=16777216 size=$(size base.vhd) hidden=1 parent=none"
mid="vhd=mid.vhd capacity=16777216 size=$(size mid.vhd) hidden=0 parent=base.vhd"
leaf="vhd=leaf.vhd capacity=16777216 size=$(size leaf.vhd) hidden=0 parent=mid.vhd"
N='
'

# the line; the order as given; a glob sorted, and first
check_out "$leaf$N$base$N$mid" "$U" scan leaf.vhd base.vhd mid.vhd
check_out "$base$N$leaf$N$mid" "$U" scan -m '*.vhd'
check_out "$mid$N$base$N$leaf" "$U" scan --match "$PWD/{mid,[a-l]*}.v?d" --debug
check_out "$mid$N$leaf" "$U" scan -m 'm*.vhd' leaf.vhd
check_out "$base$N$leaf" "$U" scan -f base.vhd leaf.vhd
check_out "vhd=$PWD/leaf.vhd${leaf#vhd=leaf.vhd}" "$U" scan -fv leaf.vhd
check_out "vhd=$PWD/leaf.vhd${leaf#vhd=leaf.vhd}" sh -c "'$U' scan -v leaf.vhd | sed 's|parent=$PWD/|parent=|'"
check_out "${base/ parent/ marker=7 keyhash= parent}" "$U" scan -M base.vhd
hash=$(printf 'ab%.0s' {1..32})
cp base.vhd keyed.vhd
at=$(python3 - <<'PY'
raw = open("keyed.vhd", "r+b")
data = raw.read()
at = data.index(b"tdbatmap")
raw.seek(at + 29)
raw.write(b"\1" + b"\2" * 32 + b"\xab" * 32)
print(at)
PY
)
[ -n "$at" ] || fail "no batmap"
check_status 0 "$U" scan -M keyed.vhd
grep -q " marker=7 keyhash=$hash parent=none\$" "$T/.out" || fail "key hash: $(cat "$T/.out")"
rm keyed.vhd

# parents too: once each, behind what was named, and not when they are named later
check_out "$leaf$N$mid$N$base" "$U" scan -a leaf.vhd
check_out "$leaf$N$mid$N$base" "$U" scan -a -f leaf.vhd
check_out "$leaf$N$base$N$mid" "$U" scan -a leaf.vhd base.vhd
check_out "$mid$N$leaf$N$base" "$U" scan -a mid.vhd leaf.vhd
head -c 1M /dev/zero >disk.raw
"$U" snapshot -n over.vhd -p disk.raw -m || fail "snapshot -m"
check_out "vhd=over.vhd capacity=1048576 size=$(size over.vhd) hidden=0 parent=disk.raw${N}vhd=disk.raw capacity=1048576 size=1048576 hidden=1 parent=none" \
	"$U" scan -a over.vhd
rm over.vhd disk.raw

# nothing that matches: nothing, status 0; nothing named: usage
check_out '' "$U" scan -m '*.nothing'
check_out '' "$U" scan -f -c -m "$PWD/nowhere/*.vhd"
check_out '' "$U" scan -p -m '*.nothing'
check_status 22 "$U" scan
check_status 22 "$U" scan -c
check_status 22 "$U" scan -l
check_status 22 "$U" scan --frobnicate base.vhd

# what fails: one line for each, no other; without -c the end, and its status
echo short >bad.vhd
line() { # line NAME NUMBER: the pattern of a failing line
	echo "^vhd=$1 scan-error=-$2 error-message='[^']*'\$"
}
check_status 117 "$U" scan base.vhd bad.vhd mid.vhd
[ "$(head -1 "$T/.out")" = "$base" ] && [ "$(wc -l <"$T/.out")" = 2 ] || fail "$(cat "$T/.out")"
grep -qE "$(line bad.vhd 117)" "$T/.out" || fail "$(cat "$T/.out")"
[ "$(wc -l <"$T/.err")" = 1 ] || fail "not one line on stderr: $(cat "$T/.err")"
check_err bad.vhd
check_status 0 "$U" scan -c base.vhd bad.vhd missing.vhd mid.vhd
[ "$(wc -l <"$T/.out")" = 4 ] && [ ! -s "$T/.err" ] || fail "$(cat "$T/.out" "$T/.err")"
grep -qE "$(line missing.vhd 2)" "$T/.out" || fail "$(cat "$T/.out")"
# the predecessor printed a phantom line beside
check_status 0 "$U" scan -c missing.vhd
[ "$(grep -c . "$T/.out")" = 1 ] || fail "phantom: $(cat "$T/.out")"
check_status 2 "$U" scan missing.vhd
mkfifo fifo.vhd
mkdir dir.vhd
check_status 0 timeout 20 "$U" scan -c fifo.vhd dir.vhd
[ "$(grep -cE "$(line '[a-z]*.vhd' 22)" "$T/.out")" = 2 ] || fail "$(cat "$T/.out")"
rm -r fifo.vhd dir.vhd bad.vhd
# a name cannot forge a line
forged=$(printf 'x\nvhd=y.vhd capacity=1')
cp base.vhd "$forged"
check_status 0 "$U" scan "$forged"
[ "$(wc -l <"$T/.out")" = 1 ] || fail "forged: $(cat "$T/.out")"
rm "$forged"

# a parent that is gone is named as stored; with -a it fails
mkdir gone && cp leaf.vhd gone
check_out "$leaf" "$U" scan gone/leaf.vhd
check_status 2 "$U" scan -a gone/leaf.vhd
grep -qE "$(line mid.vhd 2)" "$T/.out" || fail "$(cat "$T/.out")"
check_status 0 "$U" scan -a -c gone/leaf.vhd
[ "$(wc -l <"$T/.out")" = 2 ] || fail "$(cat "$T/.out")"
check_out "$leaf (missing)" "$U" scan -p gone/leaf.vhd
rm -r gone

# trees: hidden roots first, three spaces a level
"$U" snapshot -n aleaf.vhd -p mid.vhd -e && "$U" create -n alone.vhd -s 16 || fail "make"
aleaf="vhd=aleaf.vhd capacity=16777216 size=$(size aleaf.vhd) hidden=0 parent=mid.vhd"
alone="vhd=alone.vhd capacity=16777216 size=$(size alone.vhd) hidden=0 parent=none"
tree="$base$N   $mid$N      $aleaf$N      $leaf$N$alone"
check_out "$tree" "$U" scan -p leaf.vhd alone.vhd mid.vhd base.vhd aleaf.vhd
check_out "$tree" "$U" scan -pf -m '*.vhd'
check_out "$leaf (not found in scan)" "$U" scan -p leaf.vhd
"$U" set -n aleaf.vhd -f hidden -v 1
check_out "$base$N   $mid$N      $leaf$N      ${aleaf/hidden=0/hidden=1}" "$U" scan -p -m '*lea*.vhd' -a
rm aleaf.vhd alone.vhd

shown=0
# problems JSON: what the tree and JSON say is odd, as python sees it: {name: [problems]}
problems() {
	local want=$1
	shift
	check_status 0 "$U" scan --json -c "$@"
	cp "$T/.out" "$T/shown.$((shown += 1))"
	python3 - "$T/.out" "$want" <<'PY' || fail "scan $*: $(cat "$T/.out")"
import ast, json, sys
o = json.load(open(sys.argv[1]))
assert list(o) == ["schema", "images"] and o["schema"] == "scan/1"
keys = {"file", "path", "format", "capacity", "size", "hidden", "marker", "keyhash", "id", "parent",
        "parent_id", "error", "code", "problems"}
for i in o["images"]:
    assert set(i) == keys, set(i) ^ keys
    assert (i["error"] is None) == (i["code"] is None) == (i["capacity"] is not None), i
    if i["error"] is None:
        assert i["path"].startswith("/") and isinstance(i["hidden"], bool) and i["size"] >= 512
got = {i["file"]: i["problems"] for i in o["images"]}
assert got == ast.literal_eval(sys.argv[2]), got
PY
}
problems "{'base.vhd': [], 'mid.vhd': [], 'leaf.vhd': []}" base.vhd mid.vhd leaf.vhd
problems "{'leaf.vhd': ['parent-outside']}" leaf.vhd
problems "{'leaf.vhd': [], 'mid.vhd': [], 'base.vhd': []}" -a leaf.vhd
problems "{'missing.vhd': [], 'base.vhd': []}" missing.vhd base.vhd
problems "{}" -m '*.none'
cp base.vhd twin.vhd
problems "{'base.vhd': ['duplicate-id'], 'mid.vhd': ['parent-ambiguous'], 'twin.vhd': ['duplicate-id']}" base.vhd mid.vhd twin.vhd
check_status 0 "$U" scan -p base.vhd mid.vhd twin.vhd
grep -qx "$base (duplicate id)" "$T/.out" && grep -qx "   $mid (ambiguous)" "$T/.out" || fail "$(cat "$T/.out")"
ln base.vhd same.vhd # the same file is no copy
problems "{'base.vhd': [], 'same.vhd': [], 'mid.vhd': []}" base.vhd same.vhd mid.vhd
mv base.vhd away && "$U" create -n base.vhd -s 16 || fail "make"
problems "{'base.vhd': [], 'mid.vhd': ['parent-wrong']}" base.vhd mid.vhd
rm base.vhd
problems "{'mid.vhd': ['parent-missing']}" mid.vhd
check_out "$mid (missing)" "$U" scan -p mid.vhd
mv away base.vhd
rm twin.vhd same.vhd
for f in parent-is-itself parent-cycle poisoned; do
	python3 "$root/fixtures/make.py" $f . || fail "make $f"
done
problems "{'child.vhd': ['cycle']}" parent-is-itself/child.vhd
for f in parent-is-itself parent-cycle; do
	check_status 0 timeout 20 "$U" scan -p -a $f/*.vhd
	[ "$(grep -c '(cycle)$' "$T/.out")" = "$(wc -l <"$T/.out")" ] || fail "$f: $(cat "$T/.out")"
	check_status 0 timeout 20 "$U" scan -a $f/*.vhd
done
[ "$(wc -l <"$T/.out")" -ge 2 ] || fail "a cycle of two: $(cat "$T/.out")"
check_status 0 "$U" scan poisoned/*.vhd # an answer in spite of v_poison
rm -r parent-is-itself parent-cycle poisoned

# no locks: images in use are looked at
mkfifo hold
"$U" write leaf.vhd --offset 0 <hold &
exec 9>hold
for _ in $(seq 100); do
	"$U" set -n leaf.vhd -f hidden -v 0 2>/dev/null
	[ $? = 16 ] && break
	sleep 0.05
done
check_status 16 "$U" set -n leaf.vhd -f hidden -v 0
check_status 0 "$U" scan leaf.vhd
exec 9>&-
wait
rm hold

# directories: what is no image and has another name is left out, links are not followed
mkdir -p deep/er/est deep/z
cp leaf.vhd deep/er/est/a.vhd
cp mid.vhd deep/er/without-suffix
cp base.vhd deep/z/B.VHD
echo text >deep/er/readme
echo text >deep/broken.vhd
mkfifo deep/pipe.vhd
ln -s .. deep/er/up
ln -s "$PWD/base.vhd" deep/link.vhd
check_status 0 timeout 20 "$U" scan -c -r deep
names() { sed -nE 's/^vhd=([^ ]*) .*/\1/p' "$T/.out" | tr '\n' ' '; }
[ "$(names)" = "broken.vhd a.vhd without-suffix B.VHD " ] || fail "walk: $(cat "$T/.out")"
check_status 117 "$U" scan -r deep
check_status 0 "$U" scan -r -m '[aB]*.[vV]*' deep
[ "$(names)" = "a.vhd B.VHD " ] || fail "walk with a glob: $(cat "$T/.out")"
(cd deep && check_status 0 "$U" scan -rcf && [ "$(names)" = "broken.vhd a.vhd without-suffix B.VHD " ]) ||
	fail "walk here: $(cat "$T/.out")"
check_status 0 "$U" scan -r mid.vhd deep/z
[ "$(names)" = "mid.vhd B.VHD " ] || fail "file and directory: $(cat "$T/.out")"
mkdir empty
check_out '' "$U" scan -r empty

# volumes, as lvs tells them: a stand-in answers for two groups
mkdir bin vol
cat >bin/lvs <<'SH'
#!/bin/sh
for group; do :; done
[ "$group" = vg-x ] || { echo "  Volume group \"$group\" not found" >&2; exit 5; }
case " $* " in *" lv_name,lv_path "*) ;; *) exit 3 ;; esac
for v in $(ls vol); do echo "  $v|$PWD/vol/$v"; done
echo "  VHD-inactive|"
SH
chmod +x bin/lvs
PATH=$PWD/bin:$PATH
cp base.vhd vol/VHD-one
cp disk.vhd vol 2>/dev/null
"$U" snapshot -n vol/VHD-two -p vol/VHD-one -e || fail "snapshot"
one="vhd=VHD-one capacity=16777216 size=$(size vol/VHD-one) hidden=1 parent=none"
two="vhd=VHD-two capacity=16777216 size=$(size vol/VHD-two) hidden=0 parent=VHD-one"
check_out "$one$N$two" "$U" scan -f -l vg-x -m 'VHD-[ot]*'
check_out "$one$N$two" "$U" scan -l vg-x -m 'VHD-@(one|two)'
check_out "$two$N$one" "$U" scan -f -a -l vg-x -m 'VHD-t*'
check_out "$one$N   $two" "$U" scan -p -l vg-x VHD-two VHD-one
check_out '' "$U" scan -l vg-x -m 'RAW-*'
check_status 0 "$U" scan -c -l vg-x
[ "$(wc -l <"$T/.out")" = 3 ] && grep -qE "$(line VHD-inactive 2)" "$T/.out" || fail "$(cat "$T/.out")"
check_status 2 "$U" scan -l vg-x VHD-none
check_status 2 "$U" scan -l another-group
check_err another-group
check_status 22 "$U" scan -l '-vg'
check_status 22 "$U" scan -l '../vg'
problems "{'VHD-one': [], 'VHD-two': []}" -l vg-x VHD-one VHD-two
# a parent named as the device mapper spells it
python3 - <<'PY' || fail "rename the parent"
import struct
f = open("vol/VHD-two", "r+b")
head = bytearray(f.read(1536))
name = "vg--x-VHD--one".encode("utf-16-be")
head[512 + 64:512 + 64 + 512] = name.ljust(512, b"\0")
struct.pack_into(">I", head, 512 + 36, 0)
struct.pack_into(">I", head, 512 + 36, 0xffffffff - sum(head[512:1536]))
f.seek(0)
f.write(head)
PY
check_out "$two" "$U" scan -f -l vg-x VHD-two
problems "{'VHD-two': ['parent-outside']}" -f -l vg-x VHD-two
# volumes that are not active are read where they lie: two pieces on two devices
cat >bin/lvs <<'SH'
#!/bin/sh
case " $* " in
*" lv_name,lv_path "*) echo "  VHD-one|$PWD/vol/VHD-one"; echo "  VHD-two|"; echo "  VHD-odd|" ;;
*devices*)
	echo "  VHD-one|linear|0|65536|4096|$PWD/pv1(0)"
	echo "  VHD-two|linear|0|8192|4096|$PWD/pv2(3)"
	echo "  VHD-two|linear|8192|$(($(stat -c %s vol/VHD-two) - 8192))|4096|$PWD/pv1(1)"
	echo "  VHD-odd|striped|0|8192|4096|$PWD/pv1(0),$PWD/pv2(0)" ;;
esac
SH
cat >bin/pvs <<'SH'
#!/bin/sh
echo "  $PWD/pv1|1536"
echo "  $PWD/pv2|512"
echo "  /dev/sdz|x"
SH
chmod +x bin/pvs
head -c 100000 /dev/urandom >pv1
head -c 100000 /dev/urandom >pv2
dd if=vol/VHD-two of=pv2 bs=1 count=8192 seek=$((512 + 3 * 4096)) conv=notrunc status=none
dd if=vol/VHD-two of=pv1 bs=1 skip=8192 seek=$((1536 + 4096)) conv=notrunc status=none
check_out "$two" "$U" scan -f -l vg-x -m 'VHD-t*'
check_out "$one$N   $two" "$U" scan -p -l vg-x VHD-two VHD-one
check_out "$two$N$one" "$U" scan -a -f -l vg-x VHD-two -m 'nothing*'
check_status 2 "$U" scan -l vg-x VHD-odd
check_err 'not active'
truncate -s 5000 pv1 # a device that ends too early
check_status 117 "$U" scan -l vg-x VHD-two
echo 'exit 1' >bin/pvs
check_status 2 "$U" scan -l vg-x VHD-two
# blanks instead of separators, and what is no name
printf '#!/bin/sh\necho "  VHD-one %s more"; echo "  [hidden] /x"; echo; echo "  ../x|/x"\n' "$PWD/vol/VHD-one" >bin/lvs
check_out "$one" "$U" scan -l vg-x
PATH=$PWD/empty check_status 2 "$U" scan -l vg-x
check_err lvm2

check_schema "$T"/shown.*

# stdout that fails ends it
if [ -w /dev/full ]; then
	"$U" scan base.vhd >/dev/full 2>/dev/null
	[ $? = 28 ] || fail "/dev/full"
fi

[ -z "${SAN:-}" ] || exit 0 # sanitizers keep what was freed
# on a terminal a tree that takes long shows how far it is; elsewhere nothing but the tree
python3 - "$U" <<'PY' || fail "progress"
import os, pty, subprocess, sys
os.mkdir("links")
for i in range(60000):
    os.link("base.vhd", f"links/{i}.vhd")
command = [sys.argv[1], "scan", "-p", "-m", "links/*.vhd"]
ours, theirs = pty.openpty()
child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs)
os.close(theirs)
shown = b""
try:
    while piece := os.read(ours, 4096):
        shown += piece
except OSError:
    pass
assert child.wait() == 0
assert b"scanning: " in shown and b" images, " in shown, shown
assert shown.endswith(b"\r\x1b[K"), shown
assert subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE).stderr == b""
PY
rm -r links

# many, in bounded memory: eight times as many images are no more of it
mkdir many
for i in $(seq 400); do cp --sparse=always mid.vhd "many/$i.vhd"; done
peak() {
	python3 - "$@" <<'PY'
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
PY
}
few=$(peak "$U" scan many/*.vhd)
# shellcheck disable=SC2046
much=$(peak "$U" scan $(for _ in 1 2 3 4 5 6 7 8; do ls many/*.vhd; done))
[ "$much" -lt $((few + 2000)) ] || fail "memory: $few KiB for 400 images, $much KiB for 3200"
exit 0
