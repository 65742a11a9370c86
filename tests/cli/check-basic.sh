#!/bin/bash
# check: what it prints and how it ends, on sound and damaged images
# shellcheck disable=SC1091
. "$(dirname "$0")/../lib/cli.sh"
# shellcheck disable=SC1091
. "$(dirname "$0")/vectors.inc"

expect_text() { # WHAT FILE
	grep -q -- "$1" "$2" || fail "'$1' is not in: $(cat "$2")"
}

cd "$T" || exit 1
make_v2 a.vhd
make_xs xs.vhd

# sound: one line, exit 0; by -n, by operand, with every option
for options in "-n a.vhd" "a.vhd" "-n a.vhd -p -b -B -i -I -t" "--name a.vhd --parents --bitmaps"; do
	# shellcheck disable=SC2086
	[ "$("$BIN/vhd-util" check $options)" = "a.vhd is valid" ] || fail "check $options"
done
"$BIN/vhd-util" check -n a.vhd -s >out || fail "statistics"
expect_text '^blocks: 8 total, 1 allocated; sectors: 2 present' out

# with a batmap, and a fixed disk
[ "$("$BIN/vhd-util" check -n xs.vhd -b)" = "xs.vhd is valid" ] || fail "batmap"
truncate -s 5368709120 f.vhd
put f.vhd 5368709120 636f6e656374697800000002 00010000ffffffffffffffff2ec79b9677610000 \
	000700005769326b00000001400000000000000140000000 28a2103f00000002ffffe7478c54df94 \
	bd35714c945fe5444453921a
truncate -s 5368709632 f.vhd
[ "$("$BIN/vhd-util" check -n f.vhd)" = "f.vhd is valid" ] || fail "fixed"
check_status 0 "$BIN/vhd-util" check --for azure f.vhd

# damage: all of it, a line each, on stdout; 117
cp a.vhd b.vhd
put b.vhd 1536 00000001
put b.vhd 1544 ff000000
check_status 117 "$BIN/vhd-util" check -n b.vhd
"$BIN/vhd-util" check -n b.vhd >out 2>err && fail "damaged, and status 0"
[ "$(wc -l <out)" -eq 2 ] || fail "two lines were expected: $(cat out)"
[ -s err ] && fail "findings do not belong on stderr: $(cat err)"
expect_text 'block 0: sector 1 lies over the header' out
expect_text 'block 2: sector 4278190080 lies outside the file' out
grep -q 'is valid' out && fail "damaged, and valid"

# a missing end footer
cp a.vhd c.vhd
truncate -s -512 c.vhd
check_status 117 "$BIN/vhd-util" check -n c.vhd
check_status 0 "$BIN/vhd-util" check -n c.vhd -i

# leaked space is no damage
cp a.vhd l.vhd
put l.vhd 1536 ffffffff
fill l.vhd 1048576 65536 021
check_status 0 "$BIN/vhd-util" check -n l.vhd
"$BIN/vhd-util" check -n l.vhd >out
[ "$(head -1 out)" = "l.vhd is valid" ] || fail "leaked space: $(cat out)"
expect_text '^l.vhd: note: 65536 bytes of space are leaked' out

# JSON
if command -v python3 >/dev/null; then
	"$BIN/vhd-util" check --json b.vhd >json
	python3 - <<-'PY' || fail "json: $(cat json)"
	import json
	j = json.load(open("json"))
	assert j["schema"] == "check/1" and j["file"] == "b.vhd" and j["valid"] is False
	assert j["leaked_bytes"] == 0 and len(j["findings"]) == 2
	keys = "code severity offset block expected found text repairable".split()
	for f in j["findings"]:
	    assert all(k in f for k in keys), f
	assert sorted((f["code"], f["block"]) for f in j["findings"]) == [("bat-entry", 0), ("bat-entry", 2)]
	PY
	"$BIN/vhd-util" check --json a.vhd >json || fail "json of a sound image"
	python3 -c 'import json; j = json.load(open("json")); assert j["valid"] is True and j["findings"] == []' ||
		fail "json of a sound image: $(cat json)"
fi

# no image at all
echo "no image" >text
check_status 117 "$BIN/vhd-util" check text
check_status 2 "$BIN/vhd-util" check absent.vhd
check_status 22 "$BIN/vhd-util" check .
check_status 22 "$BIN/vhd-util" check
check_status 22 "$BIN/vhd-util" check --for mars a.vhd
[ -z "$("$BIN/vhd-util" check --json absent.vhd 2>/dev/null)" ] || fail "stdout on failure"
