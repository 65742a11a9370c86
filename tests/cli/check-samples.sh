#!/bin/bash
# images that other programs made are valid
# shellcheck disable=SC1091
. "$(dirname "$0")/../lib/cli.sh"

samples=${SAMPLES:-../shared/samples}
[ -d "$samples" ] || skip "no samples in $samples"
for file in "$samples"/*.vhd.gz; do
	name=$(basename "$file" .gz)
	gunzip -c "$file" >"$T/$name"
	case $name in
	*differential*) check_status 2 "$BIN/vhd-util" check -b "$T/$name" ;; # its parent is not here
	*)
		[ "$("$BIN/vhd-util" check -b "$T/$name")" = "$T/$name is valid" ] ||
			fail "$name: $("$BIN/vhd-util" check -b "$T/$name")"
		;;
	esac
done
