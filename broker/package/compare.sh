#!/bin/bash
# Makes the release a second time, elsewhere and as somebody else would, and compares: compare.sh RELEASE FOLDER
#
# RELEASE is what release.sh made; FOLDER, which is made anew, gets the second one.
set -euo pipefail
[ $# = 2 ] || { echo 'usage: compare.sh RELEASE FOLDER' >&2; exit 64; }
root=$(cd "$(dirname "$0")/../.." && pwd)
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT
(umask 077 && TZ=Asia/Tokyo LC_ALL=C "$root/broker/package/release.sh" "$2" "$elsewhere/a/folder/of-another-length")
if ! diff --recursive --brief "$1" "$2"; then
    echo 'the two releases differ' >&2
    exit 1
fi
echo "==> $(wc -l <"$2/SHA256SUMS") files, and the two releases are the same in each"
