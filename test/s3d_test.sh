#!/bin/sh
# s3d_test.sh S3D: is the store that everything is tested against right itself? Needs python3.
here=$(cd "$(dirname "$0")" && pwd)
if command -v python3 >/dev/null; then
    exec python3 "$here/s3d_test.py" "$1"
fi
echo 'SKIPPED s3d: install python3'
echo '0 passed, 0 failed'
