# shellcheck shell=bash
# cli.sh - what script tests source
#
#   $BIN   directory of the programs       $TOOLS  small programs of tests/lib/tools
#   $T     a fresh directory, removed at the end
#   check_status N cmd…      the command ends with status N; output in $T/.out, $T/.err
#   check_out TEXT cmd…      it succeeds and prints exactly TEXT
#   check_err PATTERN        the last check_status said PATTERN (grep) on stderr
#   footers_say FILE BYTES   the size of the disk in both footers, and nothing else, becomes that
#   check_schema FILE…       the JSON in each fits the schema it names (doc/schema)
#   fail TEXT…               the test fails     skip TEXT…   it cannot run here
#   need TOOL…               skip unless all are installed
#   at_exit CMD…             run at the end, last first
#   stride N                 prints 1; with QUICK (doc/hacking.md) N: one of N places is tried
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${BUILD:-build}
case $build in /*) ;; *) build=$root/$build ;; esac
BIN=${BIN:-$build/bin}
case $BIN in /*) ;; *) BIN=$root/$BIN ;; esac
# shellcheck disable=SC2034
TOOLS=$build/tests
T=$(mktemp -d "${TMPDIR:-/tmp}/vhd-test.XXXXXX")
exits=()
at_exit() { exits=("$*" "${exits[@]}"); }
stride() { if [ -n "${QUICK:-}" ]; then echo "$1"; else echo 1; fi; }
finish() {
	local status=$? cmd
	for cmd in "${exits[@]}"; do eval "$cmd"; done
	rm -rf "$T"
	exit $status
}
trap finish EXIT
fail() {
	echo "FAIL: $*" >&2
	[ -s "$T/.err" ] && sed 's/^/  stderr: /' "$T/.err" | head -5 >&2
	exit 1
}
skip() {
	echo "SKIP: $*"
	exit 77
}
need() {
	local tool
	for tool in "$@"; do command -v "$tool" >/dev/null || skip "$tool is not installed"; done
}
check_status() {
	local want=$1 got=0
	shift
	"$@" >"$T/.out" 2>"$T/.err" || got=$?
	[ "$got" = "$want" ] || {
		head -c 1000 "$T/.out" | head -5 | sed 's/^/  stdout: /' >&2
		fail "$*: status $got instead of $want"
	}
}
check_out() {
	local want=$1
	shift
	check_status 0 "$@"
	[ "$(cat "$T/.out")" = "$want" ] || fail "$*: printed '$(head -c 400 "$T/.out")' instead of '$want'"
}
check_err() {
	grep -q -- "$1" "$T/.err" || fail "stderr does not say '$1'"
}
footers_say() {
	python3 - "$@" <<'END' || fail "the footers of $1"
import struct, sys
f = open(sys.argv[1], "r+b")
for at in (f.seek(0, 2) - 512, 0):
    f.seek(at)
    b = bytearray(f.read(512))
    b[48:56], b[64:68] = struct.pack(">Q", int(sys.argv[2])), bytes(4)
    b[64:68] = struct.pack(">I", ~sum(b) & 0xffffffff)
    f.seek(at)
    f.write(b)
END
}
check_schema() {
	local status=0
	python3 "$root/tests/lib/schema.py" "$@" >"$T/.out" 2>"$T/.err" || status=$?
	[ $status != 77 ] || skip "$(cat "$T/.err")"
	[ $status = 0 ] || fail "$(tail -1 "$T/.err")"
}
