#!/bin/bash
# completions: those of every program, for every shell, name every command and option that its help has
. "$(dirname "$0")/../lib/cli.sh"
cd "$T" || exit 1
options_of() { "$@" --help | sed -n 's/^  \(-[A-Za-z0-9],\|   \) --\([a-z-]*\).*/\2/p'; }
for program in vhd-util td-util cbt-util tap-ctl tapdisk xmsnap; do
	[ -x "$BIN/$program" ] || continue
	commands=$("$BIN/$program" --help | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p')
	for shell in bash zsh fish; do
		file=$program.$shell
		"$BIN/$program" --completions $shell >"$file" || fail "$program --completions $shell"
		for c in $commands; do
			grep -qw -- "$c" "$file" || fail "$file: the command $c is missing"
			for o in $(options_of "$BIN/$program" "$c"); do
				grep -qE -- "(^|[^a-z-])(--|-l )?$o([^a-z-]|$)" "$file" || fail "$file: $c --$o is missing"
			done
		done
		[ -n "$commands" ] && continue
		for o in $(options_of "$BIN/$program"); do
			grep -qE -- "(^|[^a-z-])(--|-l )?$o([^a-z-]|$)" "$file" || fail "$file: --$o is missing"
		done
	done
	bash -n $program.bash || fail "bash does not read $program.bash"
	if command -v zsh >/dev/null; then zsh -n $program.zsh || fail "zsh does not read $program.zsh"; fi
	if command -v fish >/dev/null; then fish -n $program.fish || fail "fish does not read $program.fish"; fi
	# what bash offers behind a command
	for c in $commands; do
		bash -c '. "./$1.bash"; COMP_WORDS=("$1" "$2" --); COMP_CWORD=2; COMP_LINE="$1 $2 --"; COMP_POINT=${#COMP_LINE}
			f=$(complete -p "$1" | sed -n "s/.*-F \([^ ]*\) .*/\1/p"); "$f" "$1" -- "$2"; printf "%s\n" "${COMPREPLY[@]}"' \
			_ $program "$c" >offered 2>err || fail "$program $c: $(cat err)"
		for o in $(options_of "$BIN/$program" "$c"); do
			grep -qx -- "--$o *" offered || fail "bash offers no --$o behind $program $c: $(tr '\n' ' ' <offered)"
		done
	done
done
exit 0
