#!/bin/bash
# Runs what has to hold across versions.
#
# Usage: compatibility.sh oldest-envoy quick|whole    the tests with Envoy, on the oldest one that is known to work
#        compatibility.sh previous                    module and broker of PREVIOUS, each beside this one's other half
#
# PREVIOUS is a commit or tag of this repository; else tests/setup/previous.txt names it. What is built of it stays in
# target/previous.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
host=tests/setup/cargo.sh
say() { printf '==> %s\n' "$*"; }
fail() {
    printf 'compatibility: %s\n' "$*" >&2
    exit 1
}
lines_of() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$1"; }

# run WHAT ARGUMENT...: cargo test with these arguments; one line about it.
run() {
    local what=$1 log=target/compatibility.log before=$SECONDS
    shift
    if "$host" host test --locked -p kerbridge-tests --no-fail-fast "$@" >"$log" 2>&1; then
        awk -v what="$what" -v seconds=$((SECONDS - before)) \
            '/^test result: /{ passed += $4 } END { printf "    %s: %d passed in %d s\n", what, passed, seconds; exit !passed }' "$log"
    else
        grep -E '^(test .* FAILED|error)' "$log" | sort -u >&2 || true
        fail "$what: not all passed; all of the output is in $log"
    fi
}

oldest_envoy() {
    export KERBRIDGE_ENVOY=$root/target/tools/envoy-oldest/bin/envoy
    local version
    version=$("$KERBRIDGE_ENVOY" --version | sed -n 's|.*version: [^/]*/\([^/]*\)/.*|\1|p')
    say "the tests with Envoy $version"
    case $1 in
    quick)
        run "facts and faults" --test envoy_facts --test faults
        # What was seen to differ, and the way in and out.
        run "scenarios" --test scenarios -- outcomes:: sizes:: streams:: shipped:: tickets:: legacy::
        ;;
    whole)
        run "facts and faults" --test envoy_facts --test faults
        run "from token to ticket" --test delegation -- --include-ignored
        run "scenarios" --test scenarios
        ;;
    *) fail "quick or whole" ;;
    esac
}

previous() {
    local name commit tree
    name=${PREVIOUS:-$(lines_of tests/setup/previous.txt)}
    commit=$(git rev-parse --verify --quiet "$name^{commit}") ||
        fail "this clone has no $name: fetch it (git fetch --unshallow), or say PREVIOUS=COMMIT"
    tree=$root/target/previous/$commit
    if [ ! -e "$tree/built" ]; then
        say "building broker and module of $name into target/previous (once)"
        mkdir -p "$tree"
        git archive "$commit" | tar -x -C "$tree"
        mkdir -p "$tree/target/tools"
        cp target/tools/toolchain.env "$tree/target/tools/"
        (cd "$tree" && tests/setup/cargo.sh host build --locked -p kerbridge-broker &&
            tests/setup/cargo.sh wasm build --locked --release -p kerbridge-filter)
        touch "$tree/built"
    fi
    # Where module and broker speak with each other; what is said of one of them alone is no matter of both.
    local main=(tickets:: tokens:: cookies:: identit legacy:: revocations:: feeds:: logout:: taken_out:: key_rotation:: replays:: groups:: streams:: broker_away::)
    local skip
    while read -r skip; do main+=(--skip "$skip"); done < <(lines_of tests/setup/since-previous.txt)
    local module=$tree/target/wasm32-wasip1/release/kerbridge_filter.wasm broker=$tree/target/debug/kerbridge
    KERBRIDGE_MODULE=$module run "the module of $name with this broker" --test scenarios -- "${main[@]}"
    KERBRIDGE_BIN=$broker run "the broker of $name with this module" --test scenarios -- "${main[@]}"
    KERBRIDGE_PREVIOUS=$broker run "the state of $name here, and back" --test scenarios -- rolled_back::
}

case ${1:-} in
oldest-envoy) oldest_envoy "${2:-whole}" ;;
previous) previous ;;
*) fail "oldest-envoy quick|whole, or previous" ;;
esac
