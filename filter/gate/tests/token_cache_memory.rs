//! Measures what the cache takes. The one test of its binary: the memory of a process is all of its threads' memory.

#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

use std::collections::hash_map::RandomState;

use kerbridge_gate::UnixTime;
use kerbridge_gate::token_cache::{Bounds, TokenCache};

/// Bytes of memory that this process occupies.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim()
        .strip_suffix(" kB")?
        .parse::<usize>()
        .ok()?
        .checked_mul(1024)
}

/// A token of 640 bytes.
fn token(number: usize) -> Vec<u8> {
    format!("{number:0640}").into()
}

#[test]
fn a_hundred_thousand_tokens_stay_under_128_mb_and_within_what_is_counted() {
    const TOKENS: usize = 100_000;
    const CLAIMS: usize = 240;
    let now = UnixTime::from_seconds(100).unwrap();
    let bounds = Bounds {
        entries: TOKENS,
        bytes: 128_000_000,
    };
    let mut cache: TokenCache<Box<[u8]>> = TokenCache::new(bounds, RandomState::new());
    let before = resident().unwrap();
    for number in 0..TOKENS {
        let claims = vec![1; CLAIMS].into_boxed_slice();
        cache.insert(&token(number), now.plus(900), CLAIMS, claims, now);
    }
    let taken = resident().unwrap().saturating_sub(before);
    assert_eq!(cache.len(), TOKENS);
    println!("{taken} bytes taken, {} counted", cache.bytes());
    assert!(taken < 128_000_000, "{taken}");
    assert!(taken <= cache.bytes(), "{taken} bytes taken, {} counted", cache.bytes());
    for number in (0..TOKENS).step_by(97) {
        assert!(cache.get(&token(number), now).is_some());
    }
}
