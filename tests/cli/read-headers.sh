#!/bin/bash
# read -p: labels, their order and their column are a contract
. "$(dirname "$0")/../lib/cli.sh"
. "$(dirname "$0")/vectors.inc"
U=$BIN/vhd-util
cd "$T" || exit 1
make_v2 v2.vhd
make_v3 v3.vhd
make_xs xs.vhd

"$U" read -n v3.vhd -p >got || fail "read -p: $?"
cat >want <<'EOF'
VHD Footer Summary:
-------------------
Cookie              : conectix
Features            : (0x00000002) <RESV>
File format version : Major: 1, Minor: 0
Data offset         : 512
Timestamp           : Thu Feb 29 12:36:00 2024
Creator Application : 'win'
Creator version     : Major: 10, Minor: 0
Creator OS          : Windows
Original disk size  : 16 MB (16777216 Bytes)
Current disk size   : 16 MB (16777216 Bytes)
Geometry            : Cyl: 481, Hds: 4, Sctrs: 17
                    : 15 MB (16746496 Bytes)
Disk type           : Differencing hard disk
Checksum            : 0xffffefcc|0xffffefcc (Good!)
UUID                : c0ffee00-1234-4abc-8def-0123456789ab
Saved state         : No
Hidden              : 0

VHD Header Summary:
-------------------
Cookie              : cxsparse
Data offset         : 18446744073709551615
Table offset        : 1536
Header version      : 0x00010000
Max BAT size        : 8
Block size          : 2097152 (2 MB)
Parent name         : v2.vhd
Parent UUID         : 00112233-4455-6677-8899-aabbccddeeff
Parent timestamp    : Thu Feb 29 12:35:00 2024
Checksum            : 0xffffe46d|0xffffe46d (Good!)

VHD Parent Locators:
--------------------
EOF
head -"$(wc -l <want)" got | diff want - || fail "read -p of v3"
[ "$(grep -c '^locator: ' got)" = 3 ] || fail "locators: $(grep locator: got)"
grep -q '^       code         : W2ru$' got || fail "no W2ru"
grep -q '^       data_space   : 512$' got || fail "no data_space"
grep -q '^       data_length  : 16$' got || fail "no data_length"
grep -q '^       data_offset  : 2048$' got || fail "no data_offset"
grep -q '^       decoded name : ./v2.vhd$' got || fail "names: $(grep decoded got)"
grep -q '^       decoded name : /vm/v2.vhd$' got || fail "names: $(grep decoded got)"

"$U" read -n v2.vhd -p >got || fail "read -p of v2"
grep -q 'Dynamic hard disk' got || fail "type of v2"
grep -Eq 'Locators|Batmap' got && fail "v2 has neither locators nor batmap"

"$U" read -n xs.vhd -p | sed -n '/^VHD Batmap/,$p' >got
cat >want <<'EOF'
VHD Batmap Summary:
-------------------
Batmap offset       : 2560
Batmap size (secs)  : 1
Batmap version      : 0x00010002
Checksum            : 0xffffff3f|0xffffff3f (Good!)
Marker              : 0

EOF
diff want got || fail "batmap of xs"
put xs.vhd 0xa00 80
"$U" read -n xs.vhd -p | grep -q '^Checksum.*: 0xffffff3f|0xffffff7f (Bad!)' ||
	fail "a wrong batmap checksum is not said"
