//! Chooses the target that the variable `FUZZ_TARGET` names and gives libFuzzer's inputs to it. One binary for all: they
//! share all but a few lines.

#![no_main]

#[path = "../tests/fuzz/targets.rs"]
mod targets;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<fn(&[u8]) -> bool> = LazyLock::new(|| {
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = targets::ALL.into_iter().find(|(name, _)| *name == wanted);
    found
        .unwrap_or_else(|| panic!("FUZZ_TARGET names no target: {wanted}"))
        .1
});

fuzz_target!(|data: &[u8]| {
    TARGET(data);
});
