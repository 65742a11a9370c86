#!/bin/bash
# schema: what is printed with --json is described by a schema, and fits it
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
need python3
check_schema --all
cd "$T" || exit 1

# every command that has --json has a schema of its name, td-util's those of vhd-util's; every
# schema is somebody's
prefix() {
	case $1 in vhd-util | td-util) ;; tap-ctl) echo tap- ;; *-util) echo "${1%-util}-" ;; esac
}
expected=xmsnap
for program in vhd-util tap-ctl td-util cbt-util; do
	[ -x "$BIN/$program" ] || continue
	for c in $("$BIN/$program" --help | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p'); do
		"$BIN/$program" "$c" --help | grep -q -- ' --json' || continue
		expected+=" $(prefix $program)$c"
	done
done
diff <(tr ' ' '\n' <<<"$expected" | sort -u) <(cd "$root/doc/schema" && printf '%s\n' *.json | sed 's/\.json$//' | sort) >differ ||
	fail "commands with --json (<) and doc/schema (>) differ: $(grep '^[<>]' differ | tr '\n' ' ')"
for s in "$root"/doc/schema/*.json; do
	name=$(basename "$s" .json)
	grep -rqF "\"$name/1\"" "$root"/vhd-util "$root"/td-util "$root"/cbt-util "$root"/cli "$root"/tapdisk || fail "nothing prints \"$name/1\""
done

# what json.sh does not run through its fixtures
"$U" create -n base.vhd --size 16M && "$U" snapshot -n mid.vhd -p base.vhd -e &&
	"$U" snapshot -n leaf.vhd -p mid.vhd -e || fail "make"
head -c 1000000 /dev/urandom | "$U" write mid.vhd --offset 0 || fail "write"
head -c 4096 /dev/urandom | "$U" write leaf.vhd --offset 5M || fail "write"
check() {
	local name=$1 want=$2
	shift 2
	check_status "$want" "$U" "$@" --json
	mv .out "$name.json"
}
check convert-1 0 convert leaf.vhd flat.raw
check convert-2 0 convert leaf.vhd fixed.vhd --to fixed
check convert-3 0 convert leaf.vhd packed.vhd.gz
check compare-1 0 compare leaf.vhd flat.raw
check compare-2 1 compare leaf.vhd base.vhd
check query-1 0 query leaf.vhd -v -s -p -f -m -d -a -S
check query-2 0 query base.vhd -p -f
check query-3 95 query fixed.vhd -v -a
check query-4 0 query leaf.vhd -p -u
check_status 0 "$BIN/td-util" query vhd -v -s -p -f -m -d -a -S leaf.vhd --json
cmp .out query-1.json || fail "td-util query prints something else than vhd-util query"
check_status 0 "$BIN/td-util" query aio --json -v -s -p -f flat.raw
mv .out query-5.json
check check-1 0 check leaf.vhd -p -b -s
check info-1 0 info leaf.vhd
check map-1 0 map leaf.vhd
check coalesce-1 0 coalesce leaf.vhd --dry-run
check coalesce-2 0 coalesce leaf.vhd
mv mid.vhd away.vhd
check info-2 0 info leaf.vhd
check check-2 2 check leaf.vhd -p
check_schema ./*-[0-9].json
exit 0
