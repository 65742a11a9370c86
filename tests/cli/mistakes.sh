#!/bin/bash
# mistakes: files named by mistake are kept: as a journal, a target, a parent; a dry run mends nothing
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
need strace python3
cd "$T" || exit 1
some() { head -c "$1" /dev/urandom; }

# revert takes a journal, what is left where nothing was begun, and nothing else
some 1M >notes && cp notes notes.before
"$U" create a.vhd --size 4M && some 2M | "$U" write a.vhd --offset 0 || fail "make"
cp a.vhd a.before
for dry in '' --dry-run; do
	check_status 117 "$U" revert a.vhd -j notes $dry
done
cmp notes notes.before || fail "what is no journal is gone"
for size in 0 1024 1M; do
	rm -f blank && truncate -s $size blank
	check_status 0 "$U" revert a.vhd -j blank
	[ ! -e blank ] || fail "a journal of zeros stays"
done
{ head -c 200000 /dev/zero && echo something; } >blank
check_status 117 "$U" revert a.vhd -j blank
cmp a.vhd a.before || fail "the image changed"

# no parent is a journal, nor a target of salvage
some 1M >raw && cp raw raw.before
"$U" snapshot r.vhd -p raw -m && "$U" snapshot rr.vhd -p r.vhd -e || fail "make"
check_status 17 "$U" resize r.vhd --size 2M -j raw
check_status 17 "$U" resize rr.vhd --size 2M -j ./raw
cmp raw raw.before || fail "the parent was taken for a journal"
"$U" snapshot b.vhd -p a.vhd && some 512 | "$U" write b.vhd --offset 3M && "$U" snapshot c.vhd -p b.vhd -e || fail "make"
check_status 22 "$U" salvage b.vhd a.vhd --force
check_status 22 "$U" salvage c.vhd a.vhd --force
cmp a.vhd a.before || fail "the parent was taken for a target"

# a clear image gets no encrypted parent
some 32 >key
"$U" create e.vhd --size 4M && "$U" key -s -n e.vhd -k key && "$U" snapshot d.vhd -p a.vhd -e || fail "make"
cp d.vhd d.before
check_status 22 "$U" modify d.vhd -p e.vhd
check_status 22 "$U" rebase --unsafe d.vhd e.vhd
cmp d.vhd d.before || fail "the child changed"

# a damaged batmap header does not make ciphertext of a salvaged disk
some 100K | "$U" write e.vhd --offset 0 --key-file key && "$U" convert e.vhd e.want --key-file key || fail "make"
for at in 2048 2068; do
	cp e.vhd e2.vhd
	printf T | dd of=e2.vhd bs=1 seek=$at conv=notrunc status=none
	check_status 0 "$U" salvage e2.vhd saved.vhd --force
	check_status 0 "$U" compare saved.vhd e.want --key-file key
done

# a cycle whose way back lies behind the target
"$U" create ring0.vhd --size 4M && "$U" snapshot ring1.vhd -p ring0.vhd -e && "$U" snapshot ring2.vhd -p ring1.vhd -e || fail "make"
some 100K | "$U" write ring2.vhd --offset 0 || fail "write"
python3 - <<'END' || fail "ring"
b, was = bytearray(open("ring2.vhd", "rb").read()), open("ring0.vhd", "rb").read(512)
for at in (0, len(b) - 512):
    b[at + 68 : at + 84], b[at + 64 : at + 68] = was[68:84], bytes(4)
    b[at + 64 : at + 68] = (~sum(b[at : at + 512]) & 0xFFFFFFFF).to_bytes(4, "big")
open("ring0.vhd", "wb").write(b)
END
rm ring2.vhd
cp ring1.vhd ring1.before
check_status 40 "$U" coalesce ring0.vhd
check_status 40 "$U" coalesce ring0.vhd --dry-run
cmp ring1.vhd ring1.before || fail "merged within a cycle"

# a target that the command reads itself is not said to be in somebody's use
"$U" create own.vhd --size 4M && "$U" snapshot own2.vhd -p own.vhd -e || fail "make"
for args in "own.vhd own.vhd" "own2.vhd own.vhd"; do
	# shellcheck disable=SC2086
	check_status 16 "$U" convert $args --force
	check_err 'uses it already, as a source'
	! grep -q pid .err || fail "in use by itself: $(cat .err)"
done

# why a name cannot be stored
printf -v line 'two\nlines.vhd'
cp own.vhd "$line"
check_status 84 "$U" snapshot odd.vhd -p "$line"
check_err 'control character'

# an answer that nobody gets is none
some 1M >one.raw && some 1M >two.raw
check_status 1 "$U" compare one.raw two.raw
check_status 28 bash -c "'$U' compare one.raw two.raw >/dev/full"
check_status 28 bash -c "'$U' compare one.raw one.raw --json >/dev/full"

# the longest names
for length in 246 247 250 255; do
	name=$(printf 'n%.0s' $(seq $length))
	check_status 0 "$U" create "$name" --size 1M
	echo x | "$U" write "$name" --offset 0 || fail "a name of $length bytes"
	check_status 0 "$U" check "$name"
done

# a fixed image whose growth was cut off: a dry run says so and leaves it alone
"$U" create f.vhd -r --size 4M && some 4M | "$U" write f.vhd --offset 0 && cp f.vhd f.before || fail "make"
ASAN_OPTIONS=detect_leaks=0 strace -f -o /dev/null -e trace=pwrite64 -e inject=pwrite64:signal=KILL:when=2 \
	"$U" resize f.vhd --size 8M
[ -e .f.vhd.journal ] || fail "it was not interrupted"
cp f.before f.vhd && truncate -s 8389120 f.vhd
cp .f.vhd.journal journal.before
for command in "resize f.vhd --size 9M" "compact f.vhd" "optimize f.vhd" "set -n f.vhd -f hidden -v 1" "fill f.vhd" "write f.vhd --offset 0"; do
	# shellcheck disable=SC2086
	check_status 16 "$U" $command --dry-run </dev/null
	[ "$(stat -c %s f.vhd)" = 8389120 ] && cmp .f.vhd.journal journal.before || fail "$command: a dry run mended it"
done
check_status 0 "$U" set -n f.vhd -f hidden -v 0
cmp -n $((4 << 20)) f.vhd f.before || fail "mended"
check_status 0 "$U" check f.vhd
exit 0
