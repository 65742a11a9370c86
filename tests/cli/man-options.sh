#!/bin/bash
# man: the pages are well formed, and say the same options as --help
. "$(dirname "$0")/../lib/cli.sh"
cd "$(dirname "$0")/../../doc/man" || exit 1

# options_of_page PAGE COMMAND: the long and short options under .SS COMMAND, or .SH OPTIONS
options_of_page() {
	sed -n "/^\.S[SH] $2\$/,/^\.S[HS] /p" "$1" | sed -n '/^\.TP$/{n;p}' |
		sed 's/\\-/-/g; s/\\f[A-Z]//g; s/"//g' | grep -oE '(^|[ ,])(--[a-z-]+|-[A-Za-z0-9])\b' |
		tr -d ' ,' | grep -vxE -- '--debug|--help|-h' | sort -u
}
options_of_help() {
	"$@" --help | grep -oE '^  (-[A-Za-z0-9], |    )--[a-z-]+' | tr -d ',' | tr ' ' '\n' |
		grep . | grep -vxE -- '--debug|--help|-h' | sort -u
}

for program in vhd-util td-util cbt-util tap-ctl; do
	commands=$("$BIN/$program" --help | sed -n 's/^  \([a-z]*\) .*/\1/p')
	[ -n "$commands" ] || fail "$program --help lists no commands"
	for c in $commands; do
		grep -q "^\.SS $c\$" $program.1 || fail "the page of $program does not know $c"
		diff <(options_of_page $program.1 "$c") <(options_of_help "$BIN/$program" "$c") >"$T/diff" ||
			fail "$program $c: page (<) and --help (>) differ: $(grep '^[<>]' "$T/diff" | tr '\n' ' ')"
	done
	for c in $(sed -n '/^\.SH COMMANDS/,/^\.SH [^C]/s/^\.SS //p' $program.1); do
		echo "$commands" | grep -qx "$c" || fail "the page of $program describes $c, which does not exist"
	done
done
for program in tapdisk xmsnap; do
	[ -x "$BIN/$program" ] || continue
	diff <(options_of_page $program.1 OPTIONS) <(options_of_help "$BIN/$program") >"$T/diff" ||
		fail "$program: page (<) and --help (>) differ: $(grep '^[<>]' "$T/diff" | tr '\n' ' ')"
done

# every public function is in libvhd(3)
for f in $(grep -oE '\bvhd_[a-z_]+\(' ../../libvhd/vhd.h | tr -d '(' | sort -u); do
	grep -q "$f" libvhd.3 || fail "libvhd.3 does not name $f"
done

need groff
for p in *.1 *.3; do
	groff -t -man -ww -Tutf8 "$p" 2>"$T/warnings" >/dev/null
	[ -s "$T/warnings" ] && fail "$p: $(cat "$T/warnings")"
done
exit 0
