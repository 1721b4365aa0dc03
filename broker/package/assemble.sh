#!/bin/bash
# Lays out a release of what was built: assemble.sh BROKER MODULE LAB FOLDER. FOLDER is made anew.
#
# The same files make the same release, byte by byte: times are SOURCE_DATE_EPOCH, or those of the last commit.
set -euo pipefail
umask 022
[ $# = 4 ] || { echo 'usage: assemble.sh BROKER MODULE LAB FOLDER' >&2; exit 64; }
broker=$(realpath "$1") module=$(realpath "$2") lab=$(realpath "$3")
root=$(cd "$(dirname "$0")/../.." && pwd)
package=$root/broker/package
# Only what an earlier release left is removed.
[ ! -e "$4" ] || [ -e "$4/SHA256SUMS" ] || rmdir "$4" || { echo "$4: no release, and not empty: name another folder" >&2; exit 64; }
rm -rf "$4"
mkdir -p "$4"
out=$(cd "$4" && pwd)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
# shellcheck disable=SC1091
. "$root/target/tools/toolchain.env"
date=$(date --date="@$SOURCE_DATE_EPOCH" +%F)
version=$("$broker" --version | cut -d' ' -f2)
machine=$("$host_bin/rustc" -vV | sed -n 's/^host: //p')

# packed NAME FOLDER FILE...: a tar that says nothing of who made it and when.
packed() {
    tar --create --format=ustar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --directory="$2" "${@:3}" |
        gzip -9n >"$out/$1"
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$package/debian.sh" "$broker" "$module" "$lab" "$out" >/dev/null

"$broker" manual "$out/man" --date "$date"
python3 "$package/configuration_manual.py" "$out/man" "$date" "$version"
"$lab" manual "$out/man" --date "$date"
mkdir "$out/completions"
"$broker" completion bash >"$out/completions/kerbridge.bash"
"$broker" completion zsh >"$out/completions/_kerbridge"
"$broker" completion fish >"$out/completions/kerbridge.fish"

install -m 644 "$module" "$out/kerbridge_filter-$version.wasm"
python3 "$root/tests/setup/module_image.py" "$module" "$version" "$out/image" >"$out/image-digests.txt"

RUSTC=$host_bin/rustc python3 "$package/sbom.py" kerbridge-broker "$machine" "$out/kerbridge-$version.cdx.json" "$broker"
RUSTC=$host_bin/rustc python3 "$package/sbom.py" kerbridge-tests "$machine" "$out/kerbridge-lab-$version.cdx.json" "$lab"
RUSTC=$wasm_bin/rustc python3 "$package/sbom.py" kerbridge-filter wasm32-wasip1 "$out/kerbridge_filter-$version.cdx.json"

top=kerbridge-$version-$machine
mkdir -p "$scratch/$top"
tree=$scratch/$top
install -D -m 755 "$broker" "$tree/bin/kerbridge"
install -D -m 644 "$module" "$tree/lib/kerbridge_filter.wasm"
cp -R "$out/man" "$out/completions" "$root/docs" "$root/envoy" "$tree/"
mkdir "$tree/systemd"
cp "$package"/kerbridge.{service,sysusers,tmpfiles} "$package/credential.conf" "$tree/systemd/"
cp "$root"/{LICENSE,CHANGELOG.md,README.md,SECURITY.md} "$out"/*.cdx.json "$tree/"
chmod -R u=rwX,go=rX "$tree"
packed "$top.tar.gz" "$scratch" "$top"
chart=$(sed -n 's/^name: *//p' "$root/envoy/chart/Chart.yaml")
cp -R "$root/envoy/chart" "$scratch/$chart"
chmod -R u=rwX,go=rX "$scratch/$chart"
packed "$chart-chart-$version.tgz" "$scratch" "$chart"

chmod -R u=rwX,go=rX "$out"
(cd "$out" && find . -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs -d '\n' sha256sum >"$scratch/sums" && mv "$scratch/sums" SHA256SUMS)
chmod 644 "$out/SHA256SUMS"
echo "$out"
