#!/bin/bash
# json: the shape of what info, map, check, coalesce and query print, on sound and damaged images
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
need python3
cd "$T" || exit 1

cat >shape.py <<'PY'
# shape.py LIST: each line names KIND STATUS PATH FILE: the object in PATH has the shape of KIND
import json, sys

def number(x): return isinstance(x, int) and not isinstance(x, bool) and x >= 0
def text(x): return isinstance(x, str)
def flag(x): return isinstance(x, bool)
def maybe(f): return lambda x: x is None or f(x)

FINDING = dict(code=text, severity=lambda x: x in ("damage", "warning", "note"), offset=maybe(number),
               block=maybe(number), expected=maybe(number), found=maybe(number), text=text,
               repairable=flag)
SHAPES = {
    "info": dict(file=text, format=lambda x: x in ("fixed", "dynamic", "differencing"),
                 virtual_size=number, file_size=number, used_size=number, block_size=maybe(number),
                 allocated_blocks=maybe(number), total_blocks=maybe(number), creator=text, id=text,
                 created=text, hidden=flag, parent=maybe(text), chain=list, problems=list),
    "map": dict(extents=list),
    "check": dict(file=text, valid=flag, leaked_bytes=number, findings=list),
    "coalesce": dict(file=text, into=text, levels=number, coalesced_sectors=number,
                     bytes_read=number, bytes_written=number),
}
EXTENT = dict(start=number, length=number, depth=number, present=flag, data=flag, zero=flag)

def fit(what, o, shape, exact=False):
    assert isinstance(o, dict), (what, o)
    for key, good in shape.items():
        assert key in o, f"{what}: {key} is missing"
        ok = isinstance(o[key], good) if good is list else good(o[key])
        assert ok, f"{what}: {key} is {o[key]!r}"
    assert not exact or set(o) <= set(shape) | {"schema"}, f"{what}: also {set(o) - set(shape)}"

def unique(pairs):
    keys = [k for k, _ in pairs]
    assert len(keys) == len(set(keys)), f"a key twice: {keys}"
    return dict(pairs)

def judge(kind, file, status, o):
    assert o["schema"] == kind + "/1" and list(o)[0] == "schema", o.get("schema")
    fit(kind, o, SHAPES[kind])
    if kind != "map":
        assert o["file"] == file, o["file"]
    if kind == "map":
        at = 0
        for e in o["extents"]:
            fit("extent", e, EXTENT)
            assert e["start"] == at and e["length"] > 0, e
            assert e["data"] != e["zero"], e
            if e["data"]:
                assert number(e["offset"]) and text(e["filename"]) and e["present"], e
            at += e["length"]
        assert at > 0
    if kind == "check":
        for f in o["findings"]:
            fit("finding", f, FINDING)
        damaged = any(f["severity"] == "damage" for f in o["findings"])
        assert o["valid"] == (not damaged) and o["valid"] == (status == 0), (o["valid"], status)
        order = [("damage", "warning", "note").index(f["severity"]) for f in o["findings"]]
        assert order == sorted(order), "not the most severe first"
    if kind == "info":
        assert len(o["id"].replace("-", "")) == 32 and o["created"].endswith("Z"), o
        assert o["chain"] and all(text(l["state"]) for l in o["chain"])
        for p in o["problems"]:
            assert text(p["code"]) and p["severity"] in ("damage", "warning", "note"), p
        if o["format"] != "fixed":
            assert o["allocated_blocks"] <= o["total_blocks"] and o["block_size"] >= 4096, o

for line in open(sys.argv[1]):
    kind, status, path, file = line.rstrip("\n").split(" ", 3)
    try:
        with open(path) as out:
            judge(kind, file, int(status), json.load(out, object_pairs_hook=unique))
    except Exception as e:
        sys.exit(f"{kind} of {file}, in {path}: {e!r}")
PY
# shape KIND ARGS…: the last is the file; either an error without a byte on stdout or the shape
shape() {
	local kind=$1 file=${*: -1} status=0
	shift
	"$U" "$kind" --json "$@" >out.json 2>err || status=$?
	if [ $status != 0 ] && [ ! -s out.json ]; then
		[ "$(grep -vc warning: err)" = 1 ] || fail "$kind $*: no one line: $(cat err)"
		return
	fi
	if [ $status != 0 ] && [ "$kind" = map ]; then # half a list must not look whole
		python3 -m json.tool out.json >/dev/null 2>&1 && fail "half a map looks whole"
		return
	fi
	[ $status = 0 ] || [ "$kind" = check ] || fail "$kind $*: status $status, and on stdout: $(cat out.json)"
	shown=$((shown + 1))
	mv out.json "shown-$shown"
	printf '%s\n' "$kind $status shown-$shown $file" >>judge.list
}
shown=0

names="vector-dynamic vector-child vector-batmap virtualpc-like chs-zero short-footer fixed-own-cookie
	spare-entries hidden saved-state block-4096 time-last empty-2040g name-non-ascii child-grown
	child-of-raw three-deep end-footer-cut copy-checksum trailing-100 footers-uuid-differ
	footers-both-bad empty-file poisoned type-5 size-odd header-checksum table-at-wrap entries-7
	block-0 entry-same entry-past entry-last torn-growth bomb-one-block leaked batmap-checksum
	batmap-at-last parent-missing parent-other-id parent-is-itself parent-absolute-raw
	parent-name-garbage parent-control locator-huge"
# shellcheck disable=SC2086
python3 "$root/fixtures/make.py" $names . || fail "make"
python3 "$root/fixtures/make.py" --list >list || fail "list"
for name in $names; do
	file=$name/$(awk -v n="$name" '$1 == n { split($2, f, ","); print f[1] }' list)
	[ -e "$file" ] || fail "no $file"
	shape info "$file"
	shape map "$file"
	shape check "$file"
	shape check -p -b "$file"
done
[ $shown -gt 100 ] || fail "only $shown outputs"

# names that JSON must escape
name=$(printf 'q"\\\001\t\303\234.vhd')
cp vector-dynamic/vector-dynamic.vhd "$name"
shape info "$name"
shape check "$name"
shape map "$name"

python3 shape.py judge.list 2>err || fail "$(cat err)"
check_schema shown-*

# coalesce: what it says and what it did
"$U" create -n base.vhd -s 16 && "$U" snapshot -n mid.vhd -p base.vhd -e &&
	"$U" snapshot -n leaf.vhd -p mid.vhd -e || fail "make"
head -c 1000000 /dev/urandom | "$U" write mid.vhd --offset 0
head -c 4096 /dev/urandom | "$U" write leaf.vhd --offset 5M
"$U" coalesce leaf.vhd --ancestor base.vhd --json >out.json || fail "coalesce"
echo 'coalesce 0 out.json leaf.vhd' >judge.list
python3 shape.py judge.list || fail "coalesce: $(cat out.json)"
python3 - <<'PY' || fail "coalesce: $(cat out.json)"
import json
o = json.load(open("out.json"))
assert o["levels"] == 2 and o["into"].endswith("/base.vhd"), o
assert o["coalesced_sectors"] == 1954 + 8, o
assert o["bytes_read"] >= 1962 * 512 and o["bytes_written"] >= 1962 * 512, o
PY
exit 0
