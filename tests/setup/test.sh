#!/bin/bash
# Runs `cargo test` with these arguments and ends with one summary over all test binaries.
#
# All of the output stays in target/test.log.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
log=$root/target/test.log

printf '==> tests\n'
# A domain controller listens on port 88, and gives its files to users of their own.
case " $* " in
*' --include-ignored '*)
    if [ "$(id -u)" != 0 ]; then
        printf '    left out: the tests with a Samba domain (samba_*, *_in_a_domain), which need root; make test as root runs them\n'
        set -- "$@" --skip samba_ --skip _in_a_domain
    fi
    ;;
esac
colour=never
[ ! -t 1 ] || colour=always
status=0
before=$SECONDS
CARGO_TERM_COLOR=$colour "$root/tests/setup/cargo.sh" host test --locked --no-fail-fast "$@" --color "$colour" 2>&1 |
    tee "$log" || status=$?

awk -v seconds=$((SECONDS - before)) '
    { gsub(/\033\[[0-9;]*m/, "") }
    # A test that runs a test binary again shows its output when it fails, result line and all. That comes among the
    # failures; the result of the binary itself is the last one before the next binary (or the next run of doctests).
    function count() { passed += p; failed += f; ignored += i; p = f = i = 0 }
    /^ +(Running|Doc-tests) / { count(); doctests = /Doc-tests/; among_failures = 0 }
    doctests && /^running [0-9]+ tests?$/ { count(); among_failures = 0 }
    /^failures:$/ { among_failures = 1 }
    /^test result: / { p = $4; f = $6; i = $8 }
    /^test .* \.\.\. FAILED$/ && !among_failures { names = names "\n      " substr($0, 6, length($0) - 16) }
    /^error: could not compile/ { broken += 1 }
    END {
        count()
        printf "==> tests: %d passed, %d failed, %d left out, in %d s\n", passed, failed, ignored, seconds
        if (names) printf "    failed:%s\n", names
        if (broken) printf "    the tests did not compile\n"
    }' "$log"
exit "$status"
