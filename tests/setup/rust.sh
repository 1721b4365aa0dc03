# Chooses the Rust toolchains: one for the host, one for the module. Sourced by setup.sh.
#
# A toolchain is one folder that holds a matching cargo, rustc and rustdoc. They are called by that path, never found
# by name, so a second Rust on PATH cannot mix in. The choice:
#
#   host    CARGO where it is given, else the cargo on PATH (of rustup: its active toolchain), ~/.cargo/bin, /usr/bin
#           and /usr/lib/rust-*/bin; the first that is new enough.
#   module  the host's toolchain where it has the target wasm32-wasip1 or rustup can add it; else a distribution's
#           toolchain with its standard library's source, which is then built along (WASM_TOOLCHAIN=debian).

# Cargo.toml says it; nothing else repeats the number.
rust_minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
# wasm-ld 19 is the oldest that was tried with the compilers that the distributions ship.
wasm_ld_minimum=19
wasm_target=wasm32-wasip1

# at_least A B: version A is B or newer.
at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# The version of the rustc in folder $1; fails where it, or its cargo, is missing or too old.
toolchain_version() {
    [ -x "$1/cargo" ] && [ -x "$1/rustc" ] || return 1
    local version
    version=$("$1/rustc" --version 2>/dev/null | cut -d ' ' -f 2) || return 1
    [ -n "$version" ] && at_least "$version" "$rust_minimum" && printf '%s\n' "$version"
}

# The folder of the real cargo behind $1, which may be a name, a link or rustup's stand-in.
toolchain_of_cargo() {
    local cargo rustup real
    cargo=$(command -v "$1") || return 1
    rustup=$(dirname "$cargo")/rustup
    if [ -x "$rustup" ] && real=$("$rustup" which cargo 2>/dev/null); then
        dirname "$real"
    elif [ -x "$(dirname "$cargo")/rustc" ]; then
        dirname "$cargo"
    else
        dirname "$(readlink -f "$cargo")"
    fi
}

# The distribution's toolchains, the newest first.
distribution_toolchains() {
    printf '%s\n' /usr/bin
    printf '%s\n' /usr/lib/rust-*/bin | sort -rV
}

# Sets host_bin and host_version.
find_host_toolchain() {
    local cargo bin
    host_bin='' host_version=''
    if [ -n "${CARGO:-}" ]; then
        bin=$(toolchain_of_cargo "$CARGO") || fail "CARGO=$CARGO is not a cargo with a rustc beside it"
        host_version=$(toolchain_version "$bin") ||
            fail "CARGO=$CARGO: its Rust is older than $rust_minimum, or has no rustc beside it"
        host_bin=$bin
        return 0
    fi
    for cargo in cargo "$HOME/.cargo/bin/cargo"; do
        bin=$(toolchain_of_cargo "$cargo") || continue
        host_version=$(toolchain_version "$bin") && host_bin=$bin && return 0
    done
    while read -r bin; do
        host_version=$(toolchain_version "$bin") && host_bin=$bin && return 0
    done < <(distribution_toolchains)
    return 1
}

sysroot_has() {
    [ -e "$("$1/rustc" --print sysroot)/lib/rustlib/$2" ]
}

has_wasm_target() { sysroot_has "$1" "$wasm_target/lib"; }
has_std_source() { sysroot_has "$1" src/rust/library/std; }

# Sets wasm_bin, wasm_std (target: it came with the toolchain; source: built along), wasm_version.
find_wasm_toolchain() {
    local bin
    wasm_bin='' wasm_std='' wasm_version='' wasm_ld='' wasi_lib=''
    if [ "$WASM_TOOLCHAIN" != debian ] && [ -n "$host_bin" ] && has_wasm_target "$host_bin"; then
        wasm_bin=$host_bin wasm_std=target wasm_version=$host_version
        return 0
    fi
    [ "$WASM_TOOLCHAIN" != target ] || return 1
    find_wasm_ld
    find_wasi_lib
    while read -r bin; do
        wasm_version=$(toolchain_version "$bin") && has_std_source "$bin" || continue
        wasm_bin=$bin wasm_std=source
        break
    done < <(distribution_toolchains)
    [ -n "$wasm_bin" ] && [ -n "$wasm_ld" ] && [ -n "$wasi_lib" ]
}

# The newest wasm-ld that is installed and new enough.
find_wasm_ld() {
    local candidate
    while read -r candidate; do
        [ -x "$candidate" ] && at_least "$(lld_major "$candidate")" "$wasm_ld_minimum" || continue
        wasm_ld=$candidate
        return 0
    done < <(printf '%s\n' /usr/bin/wasm-ld-[0-9]* | sort -rV; command -v wasm-ld || true)
}

lld_major() { "$1" --version 2>/dev/null | sed -n 's/.*LLD \([0-9]*\)\..*/\1/p'; }

find_wasi_lib() {
    local folder
    for folder in /usr/lib/wasm32-wasip1 /usr/lib/wasm32-wasi; do
        if [ -e "$folder/libc.a" ]; then
            wasi_lib=$folder
            return 0
        fi
    done
}

# Adds the target by rustup. Only one try for each toolchain, because without a network it is in vain each time.
add_wasm_target_by_rustup() {
    local rustup tried
    rustup=$(rustup_of "$host_bin") || return 1
    tried=$tools/rustup-target-failed
    if [ "$WASM_TOOLCHAIN" = auto ] && [ "$(cat "$tried" 2>/dev/null)" = "$host_bin $host_version" ]; then
        return 1
    fi
    may_install || return 1
    say "adding the target $wasm_target to $(basename "$(dirname "$host_bin")") (rustup)"
    if timeout 180 "$rustup" target add --toolchain "$(basename "$(dirname "$host_bin")")" "$wasm_target" \
        >"$tools/rustup.log" 2>&1 && has_wasm_target "$host_bin"; then
        rm -f "$tried"
        return 0
    fi
    note "rustup could not: $(grep -m 1 -i error "$tools/rustup.log" || tail -n 1 "$tools/rustup.log")"
    printf '%s\n' "$host_bin $host_version" >"$tried"
    return 1
}

# The rustup that owns folder $1.
rustup_of() {
    case $1 in */toolchains/*/bin) ;; *) return 1 ;; esac
    command -v rustup || { [ -x "$HOME/.cargo/bin/rustup" ] && printf '%s\n' "$HOME/.cargo/bin/rustup"; }
}

# Which of a distribution's package families folder $1 belongs to: `-web`, `-1.NN` or plain.
flavour_of() {
    case $1 in
    /usr/lib/rust-*/bin) basename "$(dirname "$1")" | sed 's/^rust//' ;;
    *)
        local owner
        owner=$(dpkg-query -S "$1/rustc" 2>/dev/null | head -n 1 | cut -d : -f 1)
        printf '%s\n' "${owner#rustc}"
        ;;
    esac
}

# The package family that apt offers and that is new enough; `rustup` where it is only that.
flavour_offered() {
    local flavour
    for flavour in '' -web $(apt-cache search --names-only '^rustc-1\.[0-9]+$' | sed 's/^rustc\(-[0-9.]*\) .*/\1/' | sort -rV); do
        if at_least "$(candidate "rustc$flavour")" "$rust_minimum" && [ -n "$(candidate "cargo$flavour")" ]; then
            printf '%s\n' "${flavour:-plain}"
            return 0
        fi
    done
    [ -n "$(candidate rustup)" ] && printf 'rustup\n'
}

# family_package KIND FLAVOUR: the package's name, which each family forms in its own way.
family_package() {
    local flavour=$2
    [ "$flavour" != plain ] || flavour=''
    case $1 in
    cargo | rustc | rustfmt) printf '%s%s\n' "$1" "$flavour" ;;
    src | clippy) printf 'rust%s-%s\n' "$flavour" "$1" ;;
    esac
}

# The lld packages that apt offers, the newest first.
lld_offered() {
    local package
    while read -r package; do
        [ -z "$(candidate "$package")" ] || printf '%s\n' "$package"
    done < <(apt-cache search --names-only '^lld-[0-9]+$' | cut -d ' ' -f 1 | sort -rV)
}

# The newest lld package that apt offers; fails where that is too old.
lld_package() {
    local package
    package=$(lld_offered | sed -n 1p)
    [ -n "$package" ] && at_least "${package#lld-}" "$wasm_ld_minimum" && printf '%s\n' "$package"
}
