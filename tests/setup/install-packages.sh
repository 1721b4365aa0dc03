#!/bin/bash
# Installs Debian packages as root and starts none of their services. Usage: install-packages.sh PACKAGE...
#
# policy-rc.d is Debian's own switch for that: while it exits 101, no maintainer script starts anything. One that is
# there already is put back as it was, also after an interrupted run.
set -euo pipefail

policy=/usr/sbin/policy-rc.d
saved=$policy.kerbridge-saved
# Services of the lab's packages. The lab runs its own copies, so these must not come up at the next boot
# either. Each with the package that it comes with.
services='krb5-kdc:krb5-kdc krb5-admin-server:krb5-admin-server samba:samba-ad-dc samba:smbd samba:nmbd winbind:winbind slapd:slapd postgresql:postgresql'

exec 9</var/lib/dpkg
flock 9

restore() {
    rm -f "$policy"
    if [ -e "$saved" ] || [ -L "$saved" ]; then mv "$saved" "$policy"; fi
}
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if [ ! -e "$saved" ] && [ ! -L "$saved" ] && { [ -e "$policy" ] || [ -L "$policy" ]; }; then
    mv "$policy" "$saved"
fi
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -q -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
update() { "${apt[@]}" update; }
# --no-remove: a package that is in the way is the owner's to take away.
install() { "${apt[@]}" install -y --no-install-recommends --no-remove "$@"; }
installed() { dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null | grep -q '^ii'; }

new_services=()
for service in $services; do
    installed "${service%%:*}" || new_services+=("$service")
done

updated=no
for package in "$@"; do
    if ! apt-cache policy "$package" | grep -q '^  Candidate: [^(]'; then
        update
        updated=yes
        break
    fi
done
if ! install "$@"; then
    # Old package lists name files that the mirror no longer has.
    [ "$updated" = no ] || exit 1
    update
    install "$@"
fi

# systemctl sees to the links in /etc/rc?.d as well.
disable() {
    if command -v systemctl >/dev/null; then
        systemctl --quiet disable "$1.service"
    elif command -v update-rc.d >/dev/null; then
        update-rc.d "$1" disable
    fi
}
for service in ${new_services[@]+"${new_services[@]}"}; do
    if installed "${service%%:*}"; then disable "${service#*:}" || true; fi
done
