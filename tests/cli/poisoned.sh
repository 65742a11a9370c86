#!/bin/bash
# v_poison: a journalled operation is under way; who only looks is answered, all others get 16 and
# the line that undoes it
. "$(dirname "$0")/../lib/cli.sh"
. "$(dirname "$0")/vectors.inc"
U=$BIN/vhd-util
need python3
cd "$T" || exit 1
make_xs xs.vhd
make_v3 child.vhd
make_v2 v2.vhd
cat >poison.py <<'PY'
# poison.py FILE copy|end|both: the cookie of these footers, with its checksum
import sys
data = bytearray(open(sys.argv[1], "rb").read())
for name, at in (("copy", 0), ("end", len(data) - 512)):
    if sys.argv[2] in (name, "both"):
        footer = data[at : at + 512]
        footer[0:8], footer[64:68] = b"v_poison", bytes(4)
        footer[64:68] = (~sum(footer) & 0xFFFFFFFF).to_bytes(4, "big")
        data[at : at + 512] = footer
open(sys.argv[1], "wb").write(data)
PY

# answers QUESTION…: the output is that of the sound image, with one warning that names the cure
answers() {
	"$U" "$@" -n sound/xs.vhd >want 2>/dev/null || fail "$* of the sound image"
	sed -i "s|sound/xs.vhd|xs.vhd|; s|$T/sound/|$T/|" want
	check_status 0 "$U" "$@" -n xs.vhd
	cmp .out want || fail "$*: $(diff .out want | head -5)"
	[ "$(grep -c 'warning: .*journalled.*revert' .err)" = 1 ] && [ "$(wc -l <.err)" = 1 ] ||
		fail "$*: $(cat .err)"
}
# refuses FILE COMMAND…: 16, one line with the file and what to type
refuses() {
	local file=$1
	shift
	check_status 16 "$U" "$@"
	[ "$(cat .err .out | grep -c "$file'*: .*vhd-util revert -n '[^']*$file' -j")" = 1 ] ||
		fail "$*: $(cat .err .out)"
}

mkdir sound && cp xs.vhd sound
for which in both end; do
	cp sound/xs.vhd xs.vhd
	python3 poison.py xs.vhd $which
	cp xs.vhd keep
	answers query -v -s -p -f -m -d -a -S
	answers query --json -v -s
	for question in "-b 0" "-b 0 -c 8" "-B" "-a" "-j 1" "-m 0" "-m 2 -x" "-i 4096" "-e 0" "-t 9" "-d 2"; do
		# shellcheck disable=SC2086
		answers read $question
	done
	check_status 0 "$U" read -p xs.vhd
	grep -q '^Cookie *: v_poison$' .out || fail "read -p: $(head -3 .out)"
	check_status 0 "$U" info xs.vhd
	grep -q 'journalled' .out || fail "info does not say it: $(cat .out)"
	check_status 0 "$U" info --json xs.vhd
	grep -q '"code": "poisoned"' .out || fail "info --json does not say it"

	refuses xs.vhd read xs.vhd -r 0
	refuses xs.vhd read xs.vhd -R 0
	refuses xs.vhd map xs.vhd
	refuses xs.vhd check xs.vhd
	refuses xs.vhd check -p -b xs.vhd
	refuses xs.vhd set -n xs.vhd -f hidden -v 1
	refuses xs.vhd set -n xs.vhd -f marker -v 1
	refuses xs.vhd coalesce xs.vhd
	refuses xs.vhd compare xs.vhd v2.vhd
	refuses xs.vhd compare v2.vhd xs.vhd
	refuses xs.vhd convert xs.vhd out.raw
	refuses xs.vhd snapshot -n new.vhd -p xs.vhd
	refuses xs.vhd write xs.vhd --offset 0 </dev/null
	refuses xs.vhd write xs.vhd --offset 0 --force </dev/null
	cmp xs.vhd keep || fail "something was written"
	[ ! -e out.raw ] && [ ! -e new.vhd ] || fail "something was made"
done

# of a parent
check_status 0 "$U" query -p -d child.vhd
cp .out want
python3 poison.py v2.vhd both
cp v2.vhd keep
check_status 0 "$U" query -p -d child.vhd
cmp .out want || fail "the chain of a child: $(cat .out)"
check_out 'child.vhd is valid' "$U" check child.vhd
refuses v2.vhd read child.vhd -r 0
refuses v2.vhd check -p child.vhd
refuses v2.vhd coalesce child.vhd
refuses v2.vhd convert child.vhd out.raw
refuses v2.vhd snapshot -n new.vhd -p child.vhd
refuses v2.vhd write child.vhd --offset 0 </dev/null
cmp v2.vhd keep || fail "the parent was written"
check_out '' "$U" set -n child.vhd -f hidden -v 1 # needs no parent
exit 0
