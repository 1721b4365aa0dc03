//! The fuzz targets as tests: all of their seeds, and what a few hundred random changes make of them. The same functions
//! run for as long as one likes by `make fuzz`.

#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::wildcard_enum_match_arm,
    reason = "a target panics where what must hold does not"
)]

#[path = "driver.rs"]
mod driver;
// By path, so that its own modules are found from the fuzzer's crate too.
#[path = "targets.rs"]
mod targets;

use driver::drive;

/// One test for each target, so that a failure names it.
macro_rules! driven {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            drive(stringify!($target), targets::$target);
        })*

        #[test]
        fn every_target_is_driven() {
            let driven = [$(stringify!($target)),*];
            assert_eq!(driven, targets::ALL.map(|(name, _)| name));
        }
    };
}

driven! { header_map credentials json jws jwks claims config feed_page broker_reply ticket_reply login logout }
