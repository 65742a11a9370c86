#!/bin/bash
# usage: help, unknown commands and options, where messages go, a stdout that fails
. "$(dirname "$0")/../lib/cli.sh"
. "$(dirname "$0")/vectors.inc"
U=$BIN/vhd-util
cd "$T" || exit 1
make_v2 v2.vhd

check_status 0 "$U" --help
check_status 0 "$U" -h
check_status 0 "$U" --version
check_status 22 "$U"
check_status 22 "$U" nonsense
check_status 22 "$U" querry -n v2.vhd
"$U" querry 2>err && fail "querry was taken"
grep -q "did you mean 'query'" err || fail "no suggestion: $(cat err)"
[ "$(wc -l <err)" = 1 ] || fail "more than one line: $(cat err)"

for c in create snapshot info query map read write set coalesce convert check repair salvage scan compare; do
	"$U" --help | grep -q "^  $c " || fail "--help does not list $c"
	"$U" $c --help >out 2>err || fail "$c --help: $?"
	[ -s err ] && fail "$c --help wrote to stderr"
	head -1 out | grep -q "^usage: vhd-util $c" || fail "$c --help: $(head -1 out)"
	"$U" $c -h | cmp - out || fail "$c -h and --help differ"
	check_status 22 "$U" $c --no-such-option
	# each letter has a long name
	grep -E '^  -[a-zA-Z]' out | grep -vE '^  -[a-zA-Z0-9], --[a-z-]+' &&
		fail "$c: a letter without a long option"
done

# the image by option or as operand; --debug anywhere, without a byte on stdout
"$U" query -n v2.vhd -v >a && "$U" query v2.vhd -v >b && "$U" query -v v2.vhd >c &&
	"$U" query -v --debug v2.vhd >d && "$U" --debug query --virtual-size v2.vhd >e ||
	fail "query failed"
[ "$(cat a)" = 16 ] || fail "size: $(cat a)"
cmp a b && cmp a c && cmp a d && cmp a e || fail "the ways to ask differ"
check_status 22 "$U" query v2.vhd another.vhd -v
check_status 22 "$U" query -v
check_status 22 "$U" query -n
check_status 22 "$U" query -v v2.vhd --json=yes
check_status 2 "$U" query -v missing.vhd
check_status 22 "$U" read -r 12x v2.vhd

# an error is one line, whatever the name
name=$(printf 'new\nline')
"$U" query -v "$name" 2>err && fail "a missing file was read"
[ "$(wc -l <err)" = 1 ] || fail "the message has several lines: $(cat err)"
grep -q '^vhd-util: ' err || fail "message: $(cat err)"

# stdout that fails is an error
if [ -w /dev/full ]; then
	"$U" query -v v2.vhd >/dev/full 2>err
	[ $? = 28 ] || fail "/dev/full: $(cat err)"
	"$U" read -R 0 -c 1M v2.vhd >/dev/full 2>err && fail "/dev/full took it"
	grep -q 'standard output' err || fail "message: $(cat err)"
	"$U" info --json v2.vhd >/dev/full 2>err
	[ $? = 28 ] || fail "JSON to /dev/full: $(cat err)"
fi
"$U" query -v v2.vhd >&- 2>/dev/null && fail "closed stdout was no error"
{ "$U" read -R 0 -c 4M v2.vhd 2>/dev/null; echo $? >status; } | true
[ "$(cat status)" = 32 ] || fail "closed pipe: $(cat status)"

# completions name every command and option, and bash can read them
for s in bash zsh fish; do
	"$U" --completions $s >completions.$s || fail "--completions $s"
	grep -q backup-footer completions.$s || fail "$s: --backup-footer is missing"
	grep -q 'parent-root' completions.$s || fail "$s: --parent-root is missing"
done
bash -n completions.bash || fail "bash does not read its completions"
check_status 22 "$U" --completions tcsh
bash -c '. ./completions.bash
	COMP_WORDS=(vhd-util query --back) COMP_CWORD=2; compopt() { :; }
	_vhd_util; [ "${COMPREPLY[*]}" = --backup-footer ]' || fail "bash completes wrongly"
