#!/bin/bash
# Builds what was committed, from nothing, and lays out the release: release.sh FOLDER [SOURCES]
#
# SOURCES, a folder that this makes and removes, is where the commit is unpacked and built; target/release-of unless given. Neither its name
# nor the time or the user gets into what is built: compare.sh makes a release twice, in folders of different names, and compares.
set -euo pipefail
[ $# = 1 ] || [ $# = 2 ] || { echo 'usage: release.sh FOLDER [SOURCES]' >&2; exit 64; }
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$(realpath -m "$1") sources=$(realpath -m "${2:-$root/target/release-of}")
say() { printf '==> %s\n' "$*"; }
case $sources${CARGO_HOME:-$HOME} in *' '*) echo 'the folders of sources and crates must have no spaces in their names' >&2; exit 64 ;; esac
# A commit of its own, so that no file that is not in it can be in a release.
commit=$(git -C "$root" rev-parse --quiet --verify "${RELEASE:-HEAD}^{commit}") ||
    { echo "RELEASE=${RELEASE:-HEAD}: there is no such commit here; name one that git log shows, or a tag" >&2; exit 64; }
SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct "$commit")
export SOURCE_DATE_EPOCH REPRODUCIBLE=1
[ -z "$(git -C "$root" status --porcelain)" ] || say 'changes that are not committed are not in this release'
[ ! -e "$sources" ] || [ -e "$sources/.release-of" ] || { echo "$sources: this is no folder of an earlier release: name another" >&2; exit 64; }
rm -rf "$sources"
mkdir -p "$sources/target/tools"
trap 'rm -rf "$sources"' EXIT
touch "$sources/.release-of"
git -C "$root" archive "$commit" | tar -x -C "$sources"
cp "$root/target/tools/toolchain.env" "$sources/target/tools/"
cd "$sources"
say "building $(git -C "$root" describe --always --tags "$commit") in $sources"
tests/setup/cargo.sh host build --locked --release -p kerbridge-broker
tests/setup/cargo.sh host build --locked --release -p kerbridge-tests --bin kerbridge-lab
tests/setup/cargo.sh wasm build --locked --release -p kerbridge-filter
say 'laying it out'
broker/package/assemble.sh target/release/kerbridge target/wasm32-wasip1/release/kerbridge_filter.wasm target/release/kerbridge-lab "$out"
