#!/bin/bash
# convert --for: what is made for a platform passes check --for it; wishes that contradict are refused
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
cd "$T" || exit 1
head -c 3000000 /dev/urandom >small.raw # no multiple of anything
truncate -s 30000640 odd.raw
head -c 100000 /dev/urandom | dd of=odd.raw bs=1M conv=notrunc oflag=seek_bytes seek=29000000 status=none
"$U" create -n base.vhd --size 33M --block-size 64K && head -c 70000 /dev/urandom | "$U" write base.vhd --offset 1M &&
	"$U" snapshot -n child.vhd -p base.vhd && echo leaf | "$U" write child.vhd --offset 2M || fail "make"

for platform in azure hyperv xen vpc; do
	for source in small.raw odd.raw base.vhd child.vhd; do
		check_status 0 "$U" convert $source out.vhd --for $platform --force
		check_out 'out.vhd is valid' "$U" check --for $platform out.vhd
		check_out 'out.vhd is valid' "$U" check -b out.vhd
		# the same disk, perhaps longer, and then zero behind
		"$U" convert $source want.raw --to raw --force && "$U" convert out.vhd got.raw --force || fail "back"
		truncate -s "$(stat -c %s got.raw)" want.raw
		cmp got.raw want.raw || fail "$source for $platform: other contents"
		"$U" convert - piped.vhd --from raw --for $platform --force <want.raw || fail "pipe"
		check_out 'piped.vhd is valid' "$U" check --for $platform piped.vhd
	done
done
# the creator and the kind that each takes
kind() { "$U" info "$1" | sed -n 's/^type: *//p'; }
"$U" convert odd.raw a.vhd --for azure && [ "$(kind a.vhd)" = fixed ] || fail "azure"
[ "$(stat -c %s a.vhd)" = $((29 * 1048576 + 512)) ] || fail "azure: $(stat -c %s a.vhd)"
"$U" convert small.raw b.vhd --for azure && [ "$(stat -c %s b.vhd)" = $((20 * 1048576 + 512)) ] || fail "azure, at least 20 MiB"
"$U" convert odd.raw h.vhd --for hyperv && [ "$(kind h.vhd)" = dynamic ] || fail "hyperv"
"$U" convert odd.raw x.vhd --for xen && [ "$(kind x.vhd)" = dynamic ] || fail "xen"
"$U" read -p x.vhd | grep -q "^Creator Application : 'tap'" || fail "xen: creator"
"$U" read -p h.vhd | grep -q "^Creator Application : 'win'" || fail "hyperv: creator"
check_status 0 "$U" convert odd.raw f.vhd --for hyperv --to fixed
check_out 'f.vhd is valid' "$U" check --for hyperv f.vhd
check_status 0 "$U" convert odd.raw f.vhd --for hyperv --block-size 512K --force
check_out 'f.vhd is valid' "$U" check --for hyperv f.vhd

# wishes that do not go together: told, and nothing is made
while read -r args; do
	# shellcheck disable=SC2086
	check_status 22 "$U" convert odd.raw no.vhd $args
	[ ! -e no.vhd ] && [ "$(wc -l <.err)" = 1 ] || fail "$args: $(cat .err)"
done <<'EOF'
--for mars
--for azure --to dynamic
--for azure --to raw
--for azure --block-size 2M
--for xen --to fixed
--for xen --block-size 512K
--for hyperv --block-size 64K
--for hyperv --to raw
--to fixed --block-size 2M
--to raw --block-size 2M
--to qcow2
--from qcow2
--block-size 3M
EOF
# Virtual PC ends at 127 GiB
"$U" create -n large.vhd --size 128G
check_status 34 "$U" convert large.vhd no.vhd --for vpc
[ ! -e no.vhd ] || fail "a disk too large for Virtual PC was begun"
exit 0
