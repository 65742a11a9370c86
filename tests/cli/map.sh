#!/bin/bash
# map: extents through the chain, text, JSON and picture
. "$(dirname "$0")/../lib/cli.sh"
. "$(dirname "$0")/vectors.inc"
U=$BIN/vhd-util
cd "$T" || exit 1
make_v2 v2.vhd
make_v3 v3.vhd
make_xs xs.vhd

"$U" map v3.vhd >out || fail "map: $?"
sed 1d out | awk '{ print $1, $2, $3, $4, $5 }' >got
cat >want <<'EOF'
0 512 1 data 2560
512 512 0 data 4608
1024 16776192 - zero -
EOF
diff want got || fail "map of v3"
"$U" map xs.vhd | sed 1d | awk '{ print $1, $2, $3, $4, $5 }' >got
cat >want <<'EOF'
0 2097152 0 data 4096
2097152 2097152 0 data 2105344
4194304 512 0 data 4206592
4194816 12582400 - zero -
EOF
diff want got || fail "map of xs"

COLUMNS=80 LC_ALL=C "$U" map --picture v3.vhd >out || fail "map --picture: $?"
[ "$(wc -l <out)" = 3 ] || fail "rows: $(cat out)"
grep -q '^  0 |.  *| *[0-9]* %  v3.vhd$' out || fail "first row: $(cat out)"
LC_ALL=C grep -q '[^ -~]' out && fail "not ASCII: $(cat out)"
awk 'length($0) > 80 { exit 1 }' out || fail "wider than the terminal"
if locale -a 2>/dev/null | grep -qi '^C\.utf-\?8$'; then
	COLUMNS=80 LC_ALL=C.UTF-8 "$U" map --picture xs.vhd >out || fail "picture in UTF-8"
	grep -q '█' out || fail "no block characters: $(cat out)"
fi
check_status 22 "$U" map --picture --json v3.vhd
rm v2.vhd
check_status 2 "$U" map v3.vhd
make_v2 v2.vhd

need python3
"$U" map --json v3.vhd >out.json || fail "map --json: $?"
python3 - <<'EOF' || fail "map --json: $(cat out.json)"
import json
o = json.load(open("out.json"))
assert o["schema"] == "map/1"
e = o["extents"]
assert [x["start"] for x in e] == [0, 512, 1024]
assert [x["length"] for x in e] == [512, 512, (16 << 20) - 1024]
assert [x["depth"] for x in e][:2] == [1, 0]
assert [x["data"] for x in e] == [True, True, False]
assert [x["zero"] for x in e] == [False, False, True]
assert [x["present"] for x in e] == [True, True, False]
assert [x["offset"] for x in e[:2]] == [2560, 4608] and "offset" not in e[2]
assert e[0]["filename"].endswith("/v2.vhd") and e[1]["filename"].endswith("/v3.vhd")
EOF
