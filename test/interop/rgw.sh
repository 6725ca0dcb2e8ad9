#!/bin/sh
# Ceph's RADOS Gateway, from Debian's packages: one monitor, one OSD that keeps all in
# memory, one gateway, and a second one that hands out session tokens: where that is on, a
# gateway says AccessDenied for every mistake. No systemd, no ceph-mgr, no authentication
# between them.
# See lib.sh for the verbs.
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"

install() {
    for program in radosgw radosgw-admin ceph-mon ceph-osd ceph monmaptool; do
        apt_install $program ceph-mon ceph-osd radosgw ceph-common
    done
    apt_install curl curl ca-certificates
    apt_install openssl openssl
}

start() {
    fsid=$(cat /proc/sys/kernel/random/uuid)
    conf=$dir/ceph.conf
    access=S3UPINTEROPACCESSKEY
    secret=s3upInteropSecret/0123+456789abcdefghijk
    make_tls ecdsa
    mkdir -p "$dir/mon" "$dir/osd" "$dir/rgw" "$dir/rgw-sts" "$dir/crash" "$dir/asok"
    # mon client mode crc: the gateway would ask for a mode that needs authentication, and
    # wait for ever. propose interval: the default makes every step of the start a second
    # longer. op timeout: a full OSD would let the gateway wait for ever. gc: bytes that
    # were deleted are given back while the tests still run.
    cat >"$conf" <<C
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:$((port + 1)),v1:127.0.0.1:$((port + 2))]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind port min = $((port + 3))
ms bind port max = $((port + 18))
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
run dir = $dir/asok
admin socket =
pid file =
log file = $dir/log/\$name.log
log to syslog = false
crash dir = $dir/crash
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon warn on pool no redundancy = false
osd crush chooseleaf type = 0
mon max pg per osd = 1000
paxos propose interval = 0.05
paxos min wait = 0.01
mon osd full ratio = .97
mon osd nearfull ratio = .95
mon osd backfillfull ratio = .96
debug ms = 0/0
debug osd = 0/0
debug rgw = 1/1
debug rocksdb = 0/0
[mon]
admin socket = $dir/mon.asok
mon data = $dir/mon
mon cluster log file = $dir/log/cluster.log
mon data avail warn = 1
mon data avail crit = 1
auth allow insecure global id reclaim = false
[osd]
osd data = $dir/osd
osd journal = $dir/osd/journal
osd objectstore = memstore
memstore device bytes = 6442450944
osd class load list = *
osd class default list = *
[client]
keyring = /dev/null
ms mon client mode = crc
rgw dns name = localhost
rgw enable usage log = false
rgw enable ops log = false
rgw thread pool size = 64
rados osd op timeout = 60
rgw gc obj min wait = 5
rgw gc processor period = 5
rgw gc processor max time = 5
rgw rados pool pg num min = 8
[client.rgw.sts]
rgw data = $dir/rgw-sts
rgw frontends = beast endpoint=127.0.0.1:$((port + 19))
rgw s3 auth use sts = true
rgw sts key = 0123456789abcdef
[client.rgw.a]
rgw data = $dir/rgw
rgw frontends = beast endpoint=127.0.0.1:$port ssl_endpoint=127.0.0.1:$tlsport ssl_certificate=$dir/tls/server.pem ssl_private_key=$dir/tls/server.key ssl_options=no_sslv2:no_sslv3:no_tlsv1:no_tlsv1_1
C
    unset CEPH_ARGS
    monmaptool --create --clobber --fsid "$fsid" --enable-all-features --addv a \
        "[v2:127.0.0.1:$((port + 1)),v1:127.0.0.1:$((port + 2))]" "$dir/monmap" \
        >"$dir/log/monmap" 2>&1 || fatal "monmaptool: $(cat "$dir/log/monmap")"
    ceph-mon -c "$conf" -i a --mkfs --monmap "$dir/monmap" >"$dir/log/mon-mkfs" 2>&1
    launch mon ceph-mon -c "$conf" -i a -f
    wait_for "the monitor leads" 60 mon_leads
    uuid=$(cat /proc/sys/kernel/random/uuid)
    ceph -c "$conf" osd new "$uuid" >"$dir/log/osd-new" 2>&1
    ceph-osd -c "$conf" -i 0 --mkfs --osd-uuid "$uuid" >"$dir/log/osd-mkfs" 2>&1
    launch osd ceph-osd -c "$conf" -i 0 -f
    wait_for "the OSD is up" 60 osd_up
    launch rgw radosgw -c "$conf" -n client.rgw.a -f
    launch sts radosgw -c "$conf" -n client.rgw.sts -f
    wait_for "the gateway answers" 120 answers "http://127.0.0.1:$port/"
    wait_for "the gateway answers over TLS" 20 answers "https://localhost:$tlsport/"
    admin user create --uid=s3up --display-name=s3up --access-key="$access" \
        --secret-key="$secret"
    admin role create --role-name=visitor --assume-role-policy-doc='{"Statement": [{
        "Effect": "Allow", "Action": ["sts:AssumeRole"],
        "Principal": {"AWS": ["arn:aws:iam:::user/s3up"]}}]}'
    admin role-policy put --role-name=visitor --policy-name=all --policy-doc='{"Statement": [{
        "Effect": "Allow", "Action": ["s3:*"], "Resource": "arn:aws:s3:::*"}]}'
    wait_for "the gateway that hands out tokens answers" 60 \
        answers "http://127.0.0.1:$((port + 19))/"
    cat >"$dir/env" <<C
url='http://127.0.0.1:$port' tls_url='https://localhost:$tlsport' ca='$dir/tls/ca.pem'
access=$access secret='$secret' region=us-east-1
sts_url='http://127.0.0.1:$((port + 19))' sts_role=arn:aws:iam:::role/visitor
virtual=yes access_log='$dir/log/client.rgw.a.log'
differs='wrong_region=any checksum_wrong=ignored key_no_utf8=refused
    part_race=ignored copies=undecoded'
C
}

rekey() {
    conf=$dir/ceph.conf
    admin key create --uid=s3up --key-type=s3 --access-key="$access" --secret-key="$1"
}

admin() {
    radosgw-admin -c "$conf" "$@" >>"$dir/log/admin" 2>&1 ||
        fatal "radosgw-admin: $(tail -n 1 "$dir/log/admin")"
}

mon_leads() {
    ceph --admin-daemon "$dir/mon.asok" mon_status | grep -q leader
}

osd_up() {
    ceph -c "$conf" osd stat | grep -q ' 1 up'
}

run "$@"
