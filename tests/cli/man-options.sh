#!/bin/bash
# man: the pages are well formed, and say the same options as --help
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
page=$(dirname "$0")/../../doc/man/vhd-util.1
cd "$(dirname "$page")" || exit 1

# options_of_page COMMAND: the long and short options under .SS COMMAND
options_of_page() {
	sed -n "/^\.SS $1\$/,/^\.S[HS] /p" vhd-util.1 | sed -n '/^\.TP$/{n;p}' |
		sed 's/\\-/-/g; s/\\f[A-Z]//g; s/"//g' | grep -oE '(^|[ ,])(--[a-z-]+|-[A-Za-z])\b' |
		tr -d ' ,' | sort -u
}
options_of_help() {
	"$U" "$1" --help | grep -oE '^  (-[A-Za-z], |    )--[a-z-]+' | tr -d ',' | tr ' ' '\n' |
		grep . | grep -vxE -- '--debug|--help|-h' | sort -u
}

commands=$("$U" --help | sed -n 's/^  \([a-z]*\) .*/\1/p')
[ -n "$commands" ] || fail "--help lists no commands"
for c in $commands; do
	grep -q "^\.SS $c\$" vhd-util.1 || fail "the page does not know $c"
	diff <(options_of_page "$c") <(options_of_help "$c") >"$T/diff" ||
		fail "$c: page (<) and --help (>) differ: $(grep '^[<>]' "$T/diff" | tr '\n' ' ')"
done
for c in $(sed -n '/^\.SH COMMANDS/,/^\.SH JSON/s/^\.SS //p' vhd-util.1); do
	echo "$commands" | grep -qx "$c" || fail "the page describes $c, which does not exist"
done

# every public function is in libvhd(3)
for f in $(grep -oE '\bvhd_[a-z_]+\(' ../../libvhd/vhd.h | tr -d '(' | sort -u); do
	grep -q "$f" libvhd.3 || fail "libvhd.3 does not name $f"
done

need groff
for p in vhd-util.1 libvhd.3; do
	groff -t -man -ww -Tutf8 "$p" 2>"$T/warnings" >/dev/null
	[ -s "$T/warnings" ] && fail "$p: $(cat "$T/warnings")"
done
exit 0
