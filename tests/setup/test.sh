#!/bin/bash
# Runs `cargo test` with these arguments and ends with one summary over all test binaries.
#
# All of the output stays in target/test.log.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
log=$root/target/test.log

printf '==> tests\n'
colour=never
[ ! -t 1 ] || colour=always
status=0
before=$SECONDS
CARGO_TERM_COLOR=$colour "$root/tests/setup/cargo.sh" host test --locked --no-fail-fast "$@" --color "$colour" 2>&1 |
    tee "$log" || status=$?

awk -v seconds=$((SECONDS - before)) '
    { gsub(/\033\[[0-9;]*m/, "") }
    /^test result: / { passed += $4; failed += $6; ignored += $8; binaries += 1 }
    /^test .* \.\.\. FAILED$/ { names = names "\n      " $2 }
    /^error: could not compile/ { broken += 1 }
    END {
        printf "==> tests: %d passed, %d failed, %d left out, in %d s\n", passed, failed, ignored, seconds
        if (names) printf "    failed:%s\n", names
        if (broken) printf "    the tests did not compile\n"
    }' "$log"
exit "$status"
