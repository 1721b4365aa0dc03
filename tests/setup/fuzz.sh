#!/bin/bash
# Runs the fuzz targets of the gate (filter/gate/tests/fuzz) and of the broker (broker/tests/fuzz) by libFuzzer, one after the
# other, FUZZ_SECONDS each.
#
# What was found interesting stays in target/fuzz/corpus, what broke a rule in target/fuzz/broken. No nightly Rust is
# needed: coverage is what any compiler counts, and memory errors are not looked for, for what is fuzzed has no unsafe code.
# FUZZ_ONLY names the targets, all where it is empty.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck disable=SC1091
. "$root/target/tools/toolchain.env"
cd "$root"

seconds=${FUZZ_SECONDS:-60}
case $seconds in '' | *[!0-9]*) printf 'fuzz: FUZZ_SECONDS is a number of seconds\n' >&2 && exit 64 ;; esac
work=target/fuzz

unset RUSTUP_TOOLCHAIN RUSTFLAGS
export PATH=$host_bin:$PATH CARGO=$host_bin/cargo RUSTC=$host_bin/rustc
triple=$(rustc -vV | sed -n 's/^host: //p')
mkdir -p "$work/broken"
failed=()

# Builds the fuzzer of a crate, by its folder and name, and runs its targets.
run() {
    local folder=$1 name=$2
    local inputs=$folder/tests/fuzz crate=$folder/fuzz binary=$work/build/$triple/release/$name seeds target corpus log
    # Its own lock file would let the fuzzed code drift from what is shipped; cargo adds libFuzzer to this one.
    [ "$crate/Cargo.lock" -nt Cargo.lock ] || cp Cargo.lock "$crate/Cargo.lock"
    printf '==> building the fuzz targets of the %s\n' "$name"
    "target/tools/cargo-fuzz-$fuzz_version/bin/cargo-fuzz" fuzz build --fuzz-dir "$crate" --sanitizer none \
        --target "$triple" --target-dir "$work/build" "$name"
    for seeds in "$inputs"/seeds/*/; do
        target=$(basename "$seeds")
        case " ${FUZZ_ONLY:-$target} " in *" $target "*) ;; *) continue ;; esac
        corpus=$work/corpus/$target
        log=$work/$target.log
        mkdir -p "$corpus"
        printf '==> %s, %s s\n' "$target" "$seconds"
        if FUZZ_TARGET=$target "$binary" "$corpus" "$seeds" -dict="$inputs/words.dict" -max_len=4096 \
            -timeout=10 -rss_limit_mb=2048 -max_total_time="$seconds" -artifact_prefix="$work/broken/$target-" \
            >"$log" 2>&1; then
            awk '/^Done/ { printf "    %s inputs, ", $2 }' "$log"
            printf '%s of them kept\n' "$(find "$corpus" -type f | wc -l)"
        else
            grep -A 3 'panicked at' "$log" | head -n 8 >&2 || tail -n 8 "$log" >&2
            sed -n 's/^.*Test unit written to \(.*\)$/    the input is \1/p' "$log" >&2
            failed+=("$target: FUZZ_TARGET=$target $binary INPUT; put the input into $seeds and make test keeps it")
        fi
    done
}

run filter/gate gate
run broker broker

if [ ${#failed[@]} -gt 0 ]; then
    printf 'fuzz: a rule was broken. Again, by target:\n' >&2
    printf '      %s\n' "${failed[@]}" >&2
    exit 1
fi
