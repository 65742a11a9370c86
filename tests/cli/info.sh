#!/bin/bash
# info: text and JSON, missing and wrong parents, problems
. "$(dirname "$0")/../lib/cli.sh"
. "$(dirname "$0")/vectors.inc"
U=$BIN/vhd-util
cd "$T" || exit 1
make_v2 v2.vhd
make_v3 v3.vhd
make_xs xs.vhd

"$U" info v3.vhd >out || fail "info: $?"
grep -q '^type: *differencing$' out || fail "type: $(cat out)"
grep -q '^virtual size: .*(16777216 bytes)$' out || fail "size: $(cat out)"
grep -q '^allocated blocks: *1 of 8$' out || fail "blocks: $(cat out)"
grep -q '^creator: *win 10.0$' out || fail "creator: $(cat out)"
grep -q '^created: *2024-02-29T12:36:00Z$' out || fail "created: $(cat out)"
grep -q '^problems: *none$' out || fail "problems: $(cat out)"
grep -Eq '^ +1 .*/v2.vhd: dynamic, .*, ok$' out || fail "chain: $(cat out)"

mv v2.vhd away.vhd
"$U" info v3.vhd >out || fail "a missing parent is no failure of info: $?"
grep -A3 '^problems:' out | grep -q 'v2.vhd' || fail "the missing parent is not listed: $(cat out)"
cp xs.vhd v2.vhd
"$U" info v3.vhd >out || fail "a wrong parent: $?"
grep -q '^problems:$' out || fail "the wrong parent is not listed: $(cat out)"
mv away.vhd v2.vhd
check_status 2 "$U" info nowhere.vhd

need python3
json() {
	local file=$1
	shift
	"$U" info --json "$file" >out.json || fail "info --json $file: $?"
	python3 -c "
import json
o = json.load(open('out.json', encoding='utf-8'))
$*" || fail "info --json $file: $(cat out.json)"
}
json v3.vhd "
keys = 'schema file format virtual_size file_size used_size block_size allocated_blocks ' \
       'total_blocks creator id created hidden parent chain problems'.split()
assert list(o) == keys, list(o)
assert o['schema'] == 'info/1' and o['format'] == 'differencing'
assert o['virtual_size'] == 16 << 20 and o['file_size'] == o['used_size'] == 2101760
assert o['block_size'] == 2 << 20 and o['allocated_blocks'] == 1 and o['total_blocks'] == 8
assert o['creator'] == 'win' and o['id'] == 'c0ffee00-1234-4abc-8def-0123456789ab'
assert o['created'] == '2024-02-29T12:36:00Z' and o['hidden'] is False
assert o['parent'].endswith('/v2.vhd') and len(o['chain']) == 2
assert [l['state'] for l in o['chain']] == ['ok', 'ok'] and o['problems'] == []"
# itself as parent: a cycle, in bounded time
cp v3.vhd self.vhd
put self.vhd 0x228 c0ffee0012344abc8def0123456789ab
put self.vhd 0x224 ffffe4ec
rm v2.vhd
ln self.vhd v2.vhd
json self.vhd "
assert [l['state'] for l in o['chain']] == ['ok', 'cycle'] and len(o['problems']) == 1, o"
rm v2.vhd
json v3.vhd "
assert [l['state'] for l in o['chain']] == ['ok', 'parent-missing'], o
assert o['problems'][0]['code'] == 'parent-missing' and o['parent'] == './v2.vhd', o"
make_v2 v2.vhd
# a footer is damaged: a problem with its code
put v2.vhd 0x200a40 00000000
json v2.vhd "
assert [p['code'] for p in o['problems']] == ['footer-missing'], o['problems']
assert o['problems'][0]['severity'] == 'warning'"
# a name that is not UTF-8
name=$(printf 'n\377\303(me".vhd')
if cp xs.vhd "$name" 2>/dev/null; then
	json "$name" "
assert o['file'] == 'n\ufffd\ufffd(me\".vhd', o['file']"
fi
