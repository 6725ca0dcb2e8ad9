#!/bin/sh
# oracle.sh ORACLE: second opinions. botocore, if it can be had, comes into a folder of its own.
set -u
here=$(cd "$(dirname "$0")" && pwd)
command -v python3 >/dev/null || { echo 'SKIPPED oracle: install python3'; echo '0 passed, 0 failed'; exit 0; }
if [ ! -x .build/venv/bin/python ]; then
    rm -rf .build/venv
    if python3 -m venv .build/venv.new >/dev/null 2>&1 &&
        .build/venv.new/bin/pip -q install botocore >/dev/null 2>&1; then
        mv .build/venv.new .build/venv
    fi
fi
python=python3
if [ -x .build/venv/bin/python ]; then python=.build/venv/bin/python; fi
exec "$python" "$here/oracle.py" "$1"
