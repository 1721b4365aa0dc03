//! The fuzz targets of the broker as tests, driven as those of the gate are. The same functions run for as long as one likes by
//! `make fuzz`.

#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a target panics where what must hold does not"
)]

#[path = "../../../filter/gate/tests/fuzz/driver.rs"]
mod driver;
// By path, so that the fuzzer's crate finds it too.
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

driven! { negotiate token_request keytab certificate pac ldap policy broker_config }
