#!/bin/bash
# Makes the Debian packages of what was built: debian.sh BROKER MODULE LAB FOLDER, the programs, the module, and where the packages go.
# LAB may be "", and there is no package of it then. The same files make the same packages, byte by byte: times are SOURCE_DATE_EPOCH, or
# those of the last commit.
set -euo pipefail
umask 022
[ $# = 4 ] || { echo 'usage: debian.sh BROKER MODULE LAB FOLDER' >&2; exit 64; }
broker=$(realpath "$1") module=$(realpath "$2") lab=${3:+$(realpath "$3")}
root=$(cd "$(dirname "$0")/../.." && pwd)
package=$root/broker/package
mkdir -p "$4"
out=$(cd "$4" && pwd)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
date=$(date --date="@$SOURCE_DATE_EPOCH" +%F)
upstream=$("$broker" --version | cut -d' ' -f2)
version=$upstream-1
architecture=$(dpkg --print-architecture)
# What the program was linked with is what it needs at least.
libc=$(dpkg-query -W -f '${Version}' libc6 | sed 's/-.*//')

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tree=''
put() { install -D -m "$1" "$2" "$tree/$3"; }
# begin NAME: an empty package, with what every package has.
begin() {
    name=$1 tree=$scratch/$1
    local doc=$tree/usr/share/doc/$name
    mkdir -p "$tree/DEBIAN" "$doc"
    put 644 "$package/copyright" "usr/share/doc/$name/copyright"
    gzip -9n <"$root/CHANGELOG.md" >"$doc/changelog.gz"
    gzip -9n >"$doc/changelog.Debian.gz" <<END
$name ($version) unstable; urgency=medium

  * Packaged; what is new stands in changelog.gz.

 -- kerbridge maintainers <maintainers@kerbridge.invalid>  $(date --date="@$SOURCE_DATE_EPOCH" -R)
END
    if [ -e "$package/$name.lintian" ]; then put 644 "$package/$name.lintian" "usr/share/lintian/overrides/$name"; fi
}
# manual FOLDER: its pages, packed as Debian has them.
manual() {
    local page folder
    for page in "$1"/*; do
        folder=$tree/usr/share/man/man${page##*.}
        mkdir -p "$folder"
        gzip -9n <"$page" >"$folder/${page##*/}.gz"
    done
}
# finish FIELDS: the rest of its control file comes on standard input.
finish() {
    {
        printf '%s\n' "Package: $name" "Version: $version" "Architecture: $architecture" \
            'Maintainer: kerbridge maintainers <maintainers@kerbridge.invalid>' \
            "Installed-Size: $(du -sk --apparent-size "$tree" | cut -f1)" 'Section: net' 'Priority: optional' \
            'Homepage: https://github.com/kerbridge/kerbridge'
        cat
    } >"$tree/DEBIAN/control"
    chmod 644 "$tree/DEBIAN/control"
    (cd "$tree" && find usr -type f | sort | xargs -d '\n' md5sum) >"$tree/DEBIAN/md5sums"
    find "$tree" -type d -exec chmod 755 {} +
    find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Zgzip --build "$tree" "$out/${name}_${version}_$architecture.deb" >/dev/null
    echo "$out/${name}_${version}_$architecture.deb"
}

begin kerbridge
put 755 "$broker" usr/bin/kerbridge
put 644 "$module" usr/lib/kerbridge/kerbridge_filter.wasm
put 644 "$package/kerbridge.service" usr/lib/systemd/system/kerbridge.service
put 644 "$package/kerbridge.sysusers" usr/lib/sysusers.d/kerbridge.conf
put 644 "$package/kerbridge.tmpfiles" usr/lib/tmpfiles.d/kerbridge.conf
put 644 "$package/credential.conf" usr/share/doc/kerbridge/examples/credential.conf
put 644 "$root/envoy/envoy.yaml" usr/share/doc/kerbridge/examples/envoy.yaml
put 644 "$root/docs/install.md" usr/share/doc/kerbridge/install.md
for shell in bash:bash-completion/completions/kerbridge zsh:zsh/vendor-completions/_kerbridge \
    fish:fish/vendor_completions.d/kerbridge.fish; do
    file=$tree/usr/share/${shell#*:}
    install -d "$(dirname "$file")"
    "$broker" completion "${shell%%:*}" >"$file"
done
"$broker" manual "$scratch/man" --date "$date"
python3 "$package/configuration_manual.py" "$scratch/man" "$date" "$upstream"
manual "$scratch/man"
put 755 "$package/postinst" DEBIAN/postinst
put 755 "$package/prerm" DEBIAN/prerm
put 755 "$package/postrm" DEBIAN/postrm
finish <<END
Depends: libc6 (>= $libc), libgcc-s1, libgssapi-krb5-2 (>= 1.19), libkrb5-3 (>= 1.19), systemd
Recommends: ca-certificates, krb5-user
Suggests: kerbridge-lab
Description: Kerberos tickets and API tokens, joined in Envoy
 The broker turns Kerberos tickets into short-lived tokens, and tokens into
 tickets; the module for Envoy verifies tokens without asking anybody; the
 command gets tokens for people and scripts.
END

[ -n "$lab" ] || exit 0
begin kerbridge-lab
put 755 "$lab" usr/bin/kerbridge-lab
# What the lab reads of the repository, laid out as there; see tests/src/shipped.rs.
for file in envoy/envoy.yaml envoy/policy.toml docs/audit.md; do put 644 "$root/$file" "usr/share/kerbridge-lab/$file"; done
put 644 "$root/docs/lab.md" usr/share/doc/kerbridge-lab/lab.md
"$lab" manual "$scratch/lab-man" --date "$date"
manual "$scratch/lab-man"
finish <<END
Depends: kerbridge (= $version), libc6 (>= $libc), libgcc-s1, libgssapi-krb5-2 (>= 1.19), libkrb5-3 (>= 1.19), krb5-kdc, krb5-admin-server, krb5-user, krb5-kdc-ldap, slapd, ldap-utils, apache2-bin, libapache2-mod-auth-gssapi, curl
Recommends: faketime
Suggests: postgresql, samba-ad-provision, winbind
Description: proves kerbridge on real parts, on this machine alone
 Starts a KDC, brokers, Envoy and services that listen on loopback only, plays
 named scenarios on them, and writes a report of one page. Envoy is not part
 of Debian: one is needed on PATH, or in KERBRIDGE_ENVOY.
END
