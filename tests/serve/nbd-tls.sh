#!/usr/bin/env bash
# NBD over TLS with the clients people use: pre-shared keys, certificates, and those without
# shellcheck source=tests/serve/nbd.inc
. "$(dirname "$0")/nbd.inc"
need nbdinfo nbdcopy qemu-img certtool psktool

vhd-util create -n d.vhd -s 16 || fail "create"
dd if=/dev/urandom of=random bs=1M count=8 2>/dev/null

# refuses CMD…: it fails by itself, and the server lives
refuses() {
	local status=0
	timeout 20 "$@" >/dev/null 2>&1 || status=$?
	[ $status != 0 ] && [ $status -lt 124 ] || fail "$*: status $status"
}

# ── pre-shared keys ──
mkdir keys other
psktool -u alice -p keys/keys.psk >/dev/null 2>&1 || fail "psktool"
psktool -u alice -p other/keys.psk >/dev/null 2>&1 || fail "psktool"
chmod 644 keys/keys.psk
check_status 13 timeout 20 tapdisk vhd:d.vhd --nbd "unix:$T/s" --run-dir "$T/run" --tls-psk keys/keys.psk
chmod 600 keys/keys.psk
serve s --name disk --tls-psk keys/keys.psk vhd:d.vhd
tls="nbds+unix://alice@/disk?socket=$T/s&tls-psk-file=$T/keys/keys.psk"
timeout 20 nbdinfo --json "$tls" >info || fail "nbdinfo"
grep -q '"TLS": true' info || fail "no TLS: $(cat info)"
timeout 60 nbdcopy --connections=2 random "$tls" || fail "nbdcopy there"
timeout 60 nbdcopy "$tls" back || fail "nbdcopy back"
cmp -n $((8 << 20)) random back || fail "not the same through TLS"
qemu_tls=(--object "tls-creds-psk,id=t0,endpoint=client,dir=$T/keys,username=alice")
timeout 20 qemu-img info "${qemu_tls[@]}" --image-opts \
	"driver=nbd,server.type=unix,server.path=$T/s,export=disk,tls-creds=t0" >info || fail "qemu-img info"
grep -q "virtual size: 16 MiB" info || fail "qemu-img info: $(cat info)"
refuses nbdinfo "nbd+unix:///disk?socket=$T/s"
refuses nbdinfo --list "nbd+unix:///disk?socket=$T/s"
refuses nbdinfo "nbds+unix://bob@/disk?socket=$T/s&tls-psk-file=$T/keys/keys.psk"
refuses nbdinfo "nbds+unix://alice@/disk?socket=$T/s&tls-psk-file=$T/other/keys.psk"
timeout 20 nbdinfo --size "$tls" >/dev/null || fail "it serves no more"
unserve s

# only some of those with keys
psktool -u carol -p keys/keys.psk >/dev/null 2>&1 || fail "psktool"
chmod 600 keys/keys.psk
serve s --name disk --tls-psk keys/keys.psk --tls-authz dave --tls-authz carol vhd:d.vhd
carol="nbds+unix://carol@/disk?socket=$T/s&tls-psk-file=$T/keys/keys.psk"
timeout 20 nbdinfo --size "$carol" >/dev/null || fail "carol is allowed"
refuses nbdinfo --size "$tls"
refuses nbdinfo "nbd+unix:///disk?socket=$T/s"
wait_for 10 grep -q "'alice' is not allowed here" s.log
timeout 20 nbdinfo --size "$carol" >/dev/null || fail "it serves no more"
unserve s
# an address that is added later asks for TLS as those of the beginning do
serve s --name disk --tls-psk keys/keys.psk vhd:d.vhd
added=$(TAPDISK_RUN_DIR=$T/run tap-ctl export -m 0 --nbd tcp:127.0.0.1:0 --export-name disk) || fail "export"
refuses nbdinfo "nbd://${added#tcp:}/disk"
timeout 20 nbdinfo --size "nbds://alice@${added#tcp:}/disk?tls-psk-file=$T/keys/keys.psk" >/dev/null ||
	fail "TLS at the address that was added: $added"
TAPDISK_RUN_DIR=$T/run tap-ctl export -m 0 --nbd "unix:$T/added" --export-name disk >/dev/null || fail "export"
refuses nbdinfo "nbd+unix:///disk?socket=$T/added"
unserve s
# offered: both ways
serve s --name disk --tls offer --tls-psk keys/keys.psk vhd:d.vhd
timeout 20 nbdinfo --size "$tls" >/dev/null || fail "TLS that is offered"
timeout 20 nbdinfo --size "$(served s disk)" >/dev/null || fail "in clear where TLS is offered"
unserve s
# no TLS: a client that wants it goes away
serve s --name disk vhd:d.vhd
refuses nbdinfo "$tls"
timeout 20 nbdinfo --size "$(served s disk)" >/dev/null || fail "in clear"
unserve s

# ── certificates ──
mkdir ca server client stranger
# authority DIR: a new one
authority() {
	certtool --generate-privkey --key-type ecdsa --outfile "$1/ca-key.pem" 2>/dev/null
	printf 'cn = "%s"\nca\ncert_signing_key\nexpiration_days = 30\n' "$1" >template
	certtool --generate-self-signed --load-privkey "$1/ca-key.pem" --template template --outfile "$1/ca-cert.pem" 2>/dev/null
}
# certificate DIR ROLE AUTHORITY: DIR/ROLE-{key,cert}.pem
certificate() {
	certtool --generate-privkey --key-type ecdsa --outfile "$1/$2-key.pem" 2>/dev/null
	printf 'cn = localhost\ndns_name = localhost\nip_address = 127.0.0.1\ntls_www_%s\nsigning_key\nexpiration_days = 30\n' "$2" >template
	certtool --generate-certificate --load-ca-certificate "$3/ca-cert.pem" --load-ca-privkey "$3/ca-key.pem" \
		--load-privkey "$1/$2-key.pem" --template template --outfile "$1/$2-cert.pem" 2>/dev/null
}
authority ca
authority stranger
certificate server server ca
certificate client client ca
certificate stranger client stranger
for dir in server client; do cp ca/ca-cert.pem "$dir"; done
[ -s server/server-cert.pem ] && [ -s client/client-cert.pem ] || fail "certtool"
# one that trusts the server, but is nobody here
mkdir unknown
cp ca/ca-cert.pem stranger/client-cert.pem stranger/client-key.pem unknown
serve s --name disk --tls-certs server --nbd tcp:127.0.0.1:0 vhd:d.vhd
tls="nbds+unix:///disk?socket=$T/s&tls-certificates=$T/client&tls-hostname=localhost"
timeout 20 nbdinfo --json "$tls" >info || fail "nbdinfo with certificates"
grep -q '"TLS": true' info || fail "no TLS: $(cat info)"
timeout 60 nbdcopy "$tls" back || fail "nbdcopy with certificates"
cmp -n $((8 << 20)) random back || fail "not the same through TLS with certificates"
timeout 20 qemu-img info --object "tls-creds-x509,id=t0,endpoint=client,dir=$T/client" --image-opts \
	"driver=nbd,server.type=unix,server.path=$T/s,export=disk,tls-creds=t0,tls-hostname=localhost" >info || fail "qemu-img"
refuses nbdinfo "nbd+unix:///disk?socket=$T/s"
refuses nbdinfo "nbds+unix:///disk?socket=$T/s&tls-certificates=$T/unknown&tls-hostname=localhost"
timeout 20 nbdinfo --size "$tls" >/dev/null || fail "it serves no more"
# one whose time is over
mkdir late gone
certtool --generate-privkey --key-type ecdsa --outfile late/client-key.pem 2>/dev/null
printf 'cn = late\ntls_www_client\nsigning_key\nactivation_date = "2020-01-01 00:00:00"\nexpiration_date = "2020-02-01 00:00:00"\n' >template
certtool --generate-certificate --load-ca-certificate ca/ca-cert.pem --load-ca-privkey ca/ca-key.pem \
	--load-privkey late/client-key.pem --template template --outfile late/client-cert.pem 2>/dev/null || fail "certtool: late"
cp ca/ca-cert.pem late
certificate gone client ca
cp ca/ca-cert.pem gone
gone_tls="nbds+unix:///disk?socket=$T/s&tls-certificates=$T/gone&tls-hostname=localhost"
refuses nbdinfo "nbds+unix:///disk?socket=$T/s&tls-certificates=$T/late&tls-hostname=localhost"
timeout 20 nbdinfo --size "$gone_tls" >/dev/null || fail "refused before it is revoked"
timeout 20 nbdinfo --size "$tls" >/dev/null || fail "it serves no more"
unserve s
# revoked
printf 'expiration_days = 30\ncrl_next_update = 30\ncrl_number = 1\n' >template
certtool --generate-crl --load-ca-certificate ca/ca-cert.pem --load-ca-privkey ca/ca-key.pem \
	--load-certificate gone/client-cert.pem --template template --outfile server/ca-crl.pem 2>/dev/null || fail "certtool: CRL"
serve s --name disk --tls-certs server vhd:d.vhd
timeout 20 nbdinfo --size "$tls" >/dev/null || fail "refused beside a list of revoked ones"
refuses nbdinfo "$gone_tls"
unserve s

# only some of those with certificates: by common name, by the whole subject, by parts of it
for allowed in localhost CN=localhost; do
	serve s --name disk --tls-certs server --tls-authz "$allowed" vhd:d.vhd
	timeout 20 nbdinfo --size "$tls" >/dev/null || fail "$allowed is allowed"
	unserve s
done
for allowed in local localhost,O=x CN=local localhost.example; do
	serve s --name disk --tls-certs server --tls-authz "$allowed" vhd:d.vhd
	refuses nbdinfo --size "$tls"
	wait_for 10 grep -q "'CN=localhost' is not allowed here" s.log
	unserve s
done

# ── what cannot be ──
for wrong in "--tls-psk missing" "--tls-psk keys/keys.psk --tls-certs server" "--tls require" "--tls-certs unknown" \
	"--tls-psk keys/keys.psk --tls sometimes" "--tls-authz alice" \
	"--tls-psk keys/keys.psk --tls offer --tls-authz alice"; do
	# shellcheck disable=SC2086
	refuses tapdisk vhd:d.vhd --nbd "unix:$T/s" --run-dir "$T/run" $wrong
	[ ! -e s ] || fail "$wrong: a socket is left"
done
exit 0
