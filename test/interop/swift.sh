#!/bin/sh
# OpenStack Swift with its s3api, from Debian's packages: one of each server, one disk that
# is a folder, and a second proxy that speaks TLS. See lib.sh for the verbs.
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"

install() {
    for program in swift-proxy-server swift-account-server swift-container-server \
        swift-object-server swift-ring-builder memcached; do
        apt_install $program swift-proxy swift-account swift-container swift-object memcached
    done
    apt_install curl curl ca-certificates
    apt_install openssl openssl
}

start() {
    secret=s3upInteropSecret/0123+456789abcdefghijk
    user=$(id -un)
    mkdir -p "$dir/etc" "$dir/disks/d1"
    /usr/bin/python3 -c 'import os, sys; os.setxattr(sys.argv[1], "user.s3up", b"1")' \
        "$dir/disks/d1" 2>/dev/null ||
        fatal "$dir has no user xattrs, which Swift needs: set TMPDIR to a folder that has"
    make_tls rsa
    printf '%s\n' '[swift-hash]' 'swift_hash_path_suffix = s3up' '[storage-policy:0]' \
        'name = Policy-0' 'default = yes' >"$dir/etc/swift.conf"
    number=0
    for server in account container object; do
        number=$((number + 1))
        (
            cd "$dir/etc" && swift-ring-builder $server.builder create 4 1 1 &&
                swift-ring-builder $server.builder add \
                    "r1z1-127.0.0.1:$((port + number))/d1" 1 &&
                swift-ring-builder $server.builder rebalance
        ) >"$dir/log/ring-$server" 2>&1 # it says 1 for warnings: one disk is few
        [ -f "$dir/etc/$server.ring.gz" ] || fatal "cannot make the ring of the $server server"
        settings $((port + number)) 1 >"$dir/etc/$server.conf"
        printf '%s\n' 'devices = '"$dir/disks" 'mount_check = false' \
            'disable_fallocate = true' '[pipeline:main]' "pipeline = $server-server" \
            "[app:$server-server]" "use = egg:swift#$server" >>"$dir/etc/$server.conf"
    done
    settings "$port" 2 >"$dir/etc/proxy.conf"
    settings "$tlsport" 2 >"$dir/etc/tls.conf"
    printf '%s\n' "cert_file = $dir/tls/server.pem" "key_file = $dir/tls/server.key" \
        >>"$dir/etc/tls.conf"
    pipeline >>"$dir/etc/proxy.conf"
    pipeline >>"$dir/etc/tls.conf"
    # The place of swift.conf cannot be configured; it is changed here before a server begins.
    cat >"$dir/etc/server.py" <<'C'
import runpy, sys
import swift.common.utils as utils
import swift.common.storage_policy as policy
utils.SWIFT_CONF_FILE = policy.SWIFT_CONF_FILE = sys.argv[1] + '/etc/swift.conf'
utils.HASH_PATH_SUFFIX = b's3up'
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name='__main__')
C
    launch memcached memcached -u "$user" -l 127.0.0.1 -p $((port + 4)) -m 64 \
        -P "$dir/log/memcached.pid"
    for server in account container object; do
        swift $server $server
    done
    proxies "http://127.0.0.1:$port" "https://localhost:$tlsport"
    # tempauth: an access key is ACCOUNT:USER.
    cat >"$dir/env" <<C
url='http://127.0.0.1:$port' tls_url='https://localhost:$tlsport' ca='$dir/tls/ca.pem'
access=s3up:tester secret='$secret' region=us-east-1
virtual=yes
differs='mb_again=owned checksum_wrong=ignored no_clobber=501 if_none_match=501
    unknown_key=Signature anonymous=1/1 key_no_utf8=refused'
C
}

proxies() { # URL TLSURL
    swift proxy proxy
    swift tls proxy
    wait_for "the proxy answers" 60 healthy "$1"
    wait_for "the proxy answers over TLS" 60 healthy "$2"
}

rekey() {
    stop_one proxy
    stop_one tls
    sed -i "s|^user_s3up_tester = [^ ]*|user_s3up_tester = $1|" "$dir/etc/proxy.conf" "$dir/etc/tls.conf"
    # shellcheck disable=SC2154 # of the file env
    proxies "$url" "$tls_url"
}

settings() { # PORT WORKERS
    printf '%s\n' '[DEFAULT]' 'bind_ip = 127.0.0.1' "bind_port = $1" "workers = $2" \
        "user = $user" "swift_dir = $dir/etc" 'log_level = WARNING' \
        "log_address = $dir/run/none"
}

# max_upload_part_num, max_manifest_segments: S3's 10,000 parts instead of 1,000.
pipeline() {
    filters='catch_errors gatekeeper healthcheck cache listing_formats bulk s3api tempauth
        copy slo dlo versioned_writes symlink'
    # shellcheck disable=SC2086 # these are several words
    printf '%s ' '[pipeline:main]
pipeline =' $filters proxy-server
    cat <<C

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:s3api]
use = egg:swift#s3api
max_upload_part_num = 10000
location = us-east-1
storage_domain = localhost
[filter:tempauth]
use = egg:swift#tempauth
user_s3up_tester = $secret .admin
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:$((port + 4))
[filter:slo]
use = egg:swift#slo
max_manifest_segments = 10000
C
    for filter in catch_errors gatekeeper healthcheck listing_formats bulk copy dlo \
        versioned_writes symlink; do
        printf '[filter:%s]\nuse = egg:swift#%s\n' $filter $filter
    done
}

swift() { # CONFIGURATION KIND
    launch "$1" /usr/bin/python3 -W ignore "$dir/etc/server.py" "$dir" \
        "/usr/bin/swift-$2-server" "$dir/etc/$1.conf"
}

healthy() {
    answers "$1/healthcheck" && grep -q OK "$dir/answer"
}

run "$@"
