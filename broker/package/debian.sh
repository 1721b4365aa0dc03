#!/bin/bash
# Makes the Debian package of what was built: debian.sh BROKER MODULE FOLDER, the program, the module, and where the package goes.
# The same files make the same package, byte by byte: times are SOURCE_DATE_EPOCH, or those of the last commit.
set -euo pipefail
umask 022
[ $# = 3 ] || { echo 'usage: debian.sh BROKER MODULE FOLDER' >&2; exit 64; }
broker=$(realpath "$1") module=$(realpath "$2")
root=$(cd "$(dirname "$0")/../.." && pwd)
package=$root/broker/package
mkdir -p "$3"
out=$(cd "$3" && pwd)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
version=$("$broker" --version | cut -d' ' -f2)
architecture=$(dpkg --print-architecture)
# What the program was linked with is what it needs at least.
libc=$(dpkg-query -W -f '${Version}' libc6 | sed 's/-.*//')

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
put() { install -D -m "$1" "$2" "$tree/$3"; }
put 755 "$broker" usr/bin/kerbridge
put 644 "$module" usr/lib/kerbridge/kerbridge_filter.wasm
put 644 "$package/kerbridge.service" usr/lib/systemd/system/kerbridge.service
put 644 "$package/kerbridge.sysusers" usr/lib/sysusers.d/kerbridge.conf
put 644 "$package/kerbridge.tmpfiles" usr/lib/tmpfiles.d/kerbridge.conf
put 644 "$package/credential.conf" usr/share/doc/kerbridge/examples/credential.conf
put 644 "$root/envoy/envoy.yaml" usr/share/doc/kerbridge/examples/envoy.yaml
put 644 "$root/docs/install.md" usr/share/doc/kerbridge/install.md
put 644 "$root/LICENSE" usr/share/doc/kerbridge/copyright
gzip -9n <"$root/CHANGELOG.md" >"$tree/usr/share/doc/kerbridge/changelog.gz"
for shell in bash:bash-completion/completions/kerbridge zsh:zsh/vendor-completions/_kerbridge \
    fish:fish/vendor_completions.d/kerbridge.fish; do
    file=$tree/usr/share/${shell#*:}
    install -d "$(dirname "$file")"
    "$broker" completion "${shell%%:*}" >"$file"
done
mkdir -p "$tree/DEBIAN"
put 755 "$package/postinst" DEBIAN/postinst
put 755 "$package/prerm" DEBIAN/prerm
cat >"$tree/DEBIAN/control" <<END
Package: kerbridge
Version: $version
Architecture: $architecture
Maintainer: kerbridge maintainers <maintainers@kerbridge.invalid>
Installed-Size: $(du -sk --apparent-size "$tree" | cut -f1)
Depends: libc6 (>= $libc), libgssapi-krb5-2 (>= 1.19), libkrb5-3 (>= 1.19), systemd
Recommends: ca-certificates, krb5-user
Section: net
Priority: optional
Homepage: https://github.com/kerbridge/kerbridge
Description: Kerberos tickets and API tokens, joined in Envoy
 The broker turns Kerberos tickets into short-lived tokens, and tokens into
 tickets; the module for Envoy verifies tokens without asking anybody; the
 command gets tokens for people and scripts.
END
chmod 644 "$tree/DEBIAN/control"
(cd "$tree" && find usr -type f | sort | xargs md5sum) >"$tree/DEBIAN/md5sums"
find "$tree" -type d -exec chmod 755 {} +
find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group -Zgzip --build "$tree" "$out/kerbridge_${version}_$architecture.deb" >/dev/null
echo "$out/kerbridge_${version}_$architecture.deb"
