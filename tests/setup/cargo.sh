#!/bin/bash
# Runs cargo with the toolchain that setup.sh chose. Usage: cargo.sh host|wasm SUBCOMMAND ARGUMENT...
#
# `wasm` adds the target, and where the standard library is built along it has a target folder of its own: two
# toolchains in one folder rebuild each other's work. Its modules are copied to where everyone looks for them.
# REPRODUCIBLE=1 leaves the names of this machine's folders out of what is built: a release is the same wherever it is made.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck disable=SC1091
. "$root/target/tools/toolchain.env"

side=$1 subcommand=$2
shift 2

export CARGO_TARGET_DIR=$root/target
arguments=() remaps=''
if [ "${REPRODUCIBLE:-}" = 1 ]; then
    crates=${CARGO_HOME:-$HOME/.cargo}
    remaps="--remap-path-prefix=$root=/kerbridge --remap-path-prefix=$crates=/cargo"
    export REPRODUCIBLE RUSTFLAGS=$remaps CFLAGS="-ffile-prefix-map=$root=/kerbridge -ffile-prefix-map=$crates=/cargo"
    unset CARGO_ENCODED_RUSTFLAGS
fi
case $side in
host) bin=$host_bin ;;
wasm)
    bin=$wasm_bin
    arguments+=(--target wasm32-wasip1)
    if [ "$wasm_std" = source ]; then
        export CARGO_TARGET_DIR=$root/target/wasm-std
        arguments+=(-Zbuild-std=std,panic_abort)
        # -Z belongs to nightly compilers; the distributions ship this source to be built with this compiler.
        export RUSTC_BOOTSTRAP=1
        # RUSTFLAGS would silently replace what follows.
        unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
        export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="-Clinker=$wasm_ld -Clinker-flavor=wasm-ld -Clink-self-contained=no -Lnative=$wasi_lib${remaps:+ $remaps}"
    fi
    ;;
*) exit 64 ;;
esac

export CARGO=$bin/cargo RUSTC=$bin/rustc RUSTDOC=$bin/rustdoc RUSTFMT=$bin/rustfmt
# Called by path, so rustup's stand-ins on PATH take no part; its variable would only mislead what they start.
unset RUSTUP_TOOLCHAIN

case $subcommand in
clippy | fmt) exec "$bin/cargo-$subcommand" "$subcommand" ${arguments[@]+"${arguments[@]}"} "$@" ;;
deny) exec "$root/target/tools/cargo-deny-$deny_version/bin/cargo-deny" "$@" ;;
esac

"$CARGO" "$subcommand" ${arguments[@]+"${arguments[@]}"} "$@"

if [ "$side" = wasm ] && [ "$wasm_std" = source ] && [ "$subcommand" = build ]; then
    modules=$root/target/wasm32-wasip1/release
    mkdir -p "$modules"
    for module in "$CARGO_TARGET_DIR"/wasm32-wasip1/release/*.wasm; do
        cmp -s "$module" "$modules/${module##*/}" || cp "$module" "$modules/"
    done
fi
