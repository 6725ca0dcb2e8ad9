# What the scripts of the servers share. Sourced, never run. Each of them has these verbs:
#   NAME.sh install                   gets what the server needs, or says in one line why not
#   NAME.sh look                      is it all there? If not, says in one line what is missing
#   NAME.sh start DIR PORT TLSPORT    starts it on loopback, returns when it answers; writes
#                                     DIR/env, shell assignments for whoever tests against it
#   NAME.sh rekey DIR SECRET          its user has another secret from now on
#   NAME.sh stop DIR                  stops what that start began, and nothing else
# The ports PORT..PORT+19 and TLSPORT must be free. DIR is made, and left to be removed.
# shellcheck shell=sh

fatal() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Packages that are not there yet are installed, if this is Debian and we are root. Their
# services are kept from starting: the tests bring up their own.
#   apt_install PROGRAM PACKAGE...    nothing to do where there is PROGRAM
apt_install() {
    command -v "$1" >/dev/null 2>&1 && return 0
    [ "$verb" = install ] || fatal "there is no $1 here"
    shift
    command -v apt-get >/dev/null 2>&1 || fatal "install $* (there is no apt-get here)"
    [ "$(id -u)" = 0 ] || fatal "install $* (only root may)"
    echo "${0##*/}: installing $*" >&2
    apt_get "$@" || fatal "apt-get cannot install $*"
}

# In a shell of its own, so that it takes the guard away whatever happens.
apt_get() (
    guard='' log=$(mktemp) || exit 1
    trap 'rm -f "$log" $guard' EXIT
    trap 'exit 130' INT TERM HUP
    [ -e /usr/sbin/policy-rc.d ] || guard=/usr/sbin/policy-rc.d
    [ -z "$guard" ] || { printf '#!/bin/sh\nexit 101\n' >$guard && chmod 755 $guard; }
    export DEBIAN_FRONTEND=noninteractive
    set -- install -y -q --no-install-recommends -o DPkg::Lock::Timeout=120 "$@"
    apt-get "$@" >"$log" 2>&1 && exit
    apt-get update -q >>"$log" 2>&1
    apt-get "$@" >>"$log" 2>&1 && exit
    tail -n 3 "$log" >&2
    exit 1
)

# Programs run in a session of their own, so that a Ctrl-C meant for the tests does not end
# them before the tests have said goodbye. launch NAME PROGRAM [ARGUMENT...]
launch() {
    name=$1
    shift
    # shellcheck disable=SC2016 # the inner shell expands it
    setsid sh -c 'echo $$ >"$1"; shift; exec "$@"' sh "$dir/run/$name" "$@" \
        >"$dir/log/$name" 2>&1 </dev/null &
    until [ -s "$dir/run/$name" ]; do sleep 0.02; done
}

# The one that was launched last may not have said its number yet.
stop_last() {
    [ -z "${!-}" ] || kill -s KILL "$!" "-$!" 2>/dev/null
}

# What is ours has DIR on its command line. The data is thrown away, so nobody is asked
# to end in good order; workers go with the process group of their parent.
stop_all() {
    for file in "$dir"/run/*; do stop_one "${file##*/}"; done
}

stop_one() { # NAME
    if pid=$(cat "$dir/run/$1" 2>/dev/null); then
        if grep -qF -- "$dir/" "/proc/$pid/cmdline" 2>/dev/null; then
            kill -s KILL -- "-$pid" 2>/dev/null
            while grep -qF -- "$dir/" "/proc/$pid/cmdline" 2>/dev/null; do sleep 0.02; done
        fi
        rm -f "$dir/run/$1"
    fi
}

# Until the command succeeds: wait_for WHAT SECONDS COMMAND...
wait_for() {
    what=$1
    left=$(($2 * 10))
    shift 2
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ $left -gt 0 ] || fatal "$what: not in time; $(tail -qn 2 "$dir"/log/* | tail -n 2)"
        none_ended
        sleep 0.1
    done
    none_ended
}

none_ended() {
    for file in "$dir"/run/*; do
        kill -0 "$(cat "$file")" 2>/dev/null ||
            fatal "${file##*/} ended: $(tail -n 2 "$dir/log/${file##*/}")"
    done
}

answers() {
    curl -s -o "$dir/answer" --cacert "$dir/tls/ca.pem" --max-time 5 "$1"
}

# An authority of our own, and a certificate for loopback in its name: ecdsa or rsa.
make_tls() {
    mkdir -p "$dir/tls"
    (
        cd "$dir/tls" || exit 1
        key="-newkey rsa:2048"
        [ "$1" = rsa ] || key="-newkey ec -pkeyopt ec_paramgen_curve:P-256"
        exec 2>log
        # shellcheck disable=SC2086 # these are several words
        openssl req -x509 $key -nodes -keyout ca.key -out ca.pem -days 3650 \
            -subj "/CN=s3up interop" -addext basicConstraints=critical,CA:TRUE \
            -addext keyUsage=critical,keyCertSign &&
            openssl req $key -nodes -keyout server.key -out server.csr -subj /CN=localhost
        printf '%s\n' 'basicConstraints = CA:FALSE' 'extendedKeyUsage = serverAuth' \
            'keyUsage = critical,digitalSignature,keyEncipherment' \
            'subjectAltName = DNS:localhost,DNS:interop.localhost,DNS:interop-virtual.localhost,IP:127.0.0.1' >server.ext
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -set_serial 1 \
            -days 3650 -extfile server.ext -out server.pem
    ) || fatal "cannot make certificates: $(cat "$dir/tls/log")"
}

# run VERB [DIR PORT TLSPORT]: calls the script's own `install` or `start`.
run() {
    verb=${1-}
    dir=${2-}
    case $verb in
    start)
        [ $# = 4 ] || fatal "start DIR PORT TLSPORT"
        case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
        [ ! -e "$dir" ] || fatal "$dir exists already"
        mkdir -p "$dir/run" "$dir/log" || exit 1
        # shellcheck disable=SC2034 # start uses them
        port=$3 tlsport=$4
        trap 'stop_last; stop_all' EXIT
        trap 'exit 130' INT TERM HUP
        start
        trap - EXIT INT TERM
        ;;
    stop)
        [ $# = 2 ] || fatal "stop DIR"
        case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
        stop_all
        ;;
    rekey)
        [ $# = 3 ] || fatal "rekey DIR SECRET"
        case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
        # shellcheck source=/dev/null
        . "$dir/env"
        rekey "$3"
        ;;
    install | look) install ;;
    *) fatal "install | look | start DIR PORT TLSPORT | rekey DIR SECRET | stop DIR" ;;
    esac
}
