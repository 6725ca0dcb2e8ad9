#!/bin/sh
# run.sh: runs test suites side by side and adds up what they say.
#
#   test/run.sh 'NAME COMMAND...' ...
#
# A suite prints what fails and ends with a line "N passed, M failed". One that ends without such
# a line, or with another exit code than its count deserves, has failed as a whole. JOBS says
# how many run at once (2). What was skipped is shown, and is counted nowhere; so is how long each took.
set -u
JOBS=${JOBS:-2}
logs=$(mktemp -d) || exit 2
trap 'rm -rf "$logs"' EXIT
trap 'stop INT 130' INT
trap 'stop TERM 143' TERM HUP

# Interrupted: so are all suites, and they are given the time to clean up.
stop() { # SIGNAL CODE
    trap - INT TERM HUP
    [ -z "${!-}" ] || kill -s "$1" -- "-$!" 2>/dev/null
    while [ "${!-}" ] && kill -s 0 -- "-$!" 2>/dev/null; do sleep 0.1; done
    exit "$2"
}

# Tests must not meet the settings of whoever runs them.
for name in $(env | sed -n 's/^\(AWS_[A-Z0-9_]*\|S3UP_[A-Z0-9_]*\|SSL_CERT_[A-Z]*\)=.*/\1/p') \
    http_proxy https_proxy HTTPS_PROXY no_proxy NO_PROXY all_proxy ALL_PROXY; do
    unset "$name"
done

n=0
for suite; do
    n=$((n + 1))
    printf '%s\n' "${suite#* }" >"$logs/$n.cmd"
done
# All suites are one process group, which knows interrupts: a shell's own background does not.
seq "$n" >"$logs/all"
env --default-signal=INT,QUIT setsid xargs -a "$logs/all" -P "$JOBS" -I '{}' sh -c \
    "begun=\$(date +%s); sh $logs/{}.cmd >$logs/{}.log 2>&1 </dev/null
    echo \$? \$((\$(date +%s) - begun)) >$logs/{}.code" &
wait $!

passed=0 failed=0 n=0
for suite; do
    n=$((n + 1))
    log=$logs/$n.log
    counts=$(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed.*/\1 \2/p' "$log" | tail -n 1)
    good=${counts% *} bad=${counts#* }
    code=1 took=""
    read -r code took <"$logs/$n.code"
    grep '^SKIPPED' "$log" | sed "s/^/${suite%% *}: /"
    if [ -z "$counts" ]; then
        good=0 bad=1
    elif [ "$code" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
    fi
    if [ "$bad" -ne 0 ]; then
        echo "---- ${suite%% *} (exit $code): ${suite#* }"
        grep -v '^SKIPPED' "$log" | tail -n 60 | sed 's|^|    |'
    fi
    printf '%-12s %6s passed, %s failed %6s s\n' "${suite%% *}" "$good" "$bad" "${took:-?}"
    passed=$((passed + good)) failed=$((failed + bad))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
