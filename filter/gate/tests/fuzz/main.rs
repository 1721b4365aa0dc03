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

// By path, so that its own modules are found from the fuzzer's crate too.
#[path = "targets.rs"]
mod targets;

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use targets::Target;

/// Random inputs of each target; `make fuzz` is for more.
const CASES: u32 = 400;

/// A change of an input, as a stranger could make it.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Word(Index, Index),
    Cut(Index, usize),
    Repeat(Index, usize),
    Join(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), proptest::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at(), at()).prop_map(|(at, word)| Change::Word(at, word)),
        (at(), 1..40_usize).prop_map(|(at, length)| Change::Cut(at, length)),
        (at(), 1..40_usize).prop_map(|(at, length)| Change::Repeat(at, length)),
        (at(), at()).prop_map(|(at, other)| Change::Join(at, other)),
    ]
}

/// What a folder of the fuzzer's inputs holds.
struct Inputs {
    seeds: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

impl Inputs {
    fn of(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
        let mut files: Vec<_> = fs::read_dir(folder.join("seeds").join(name))
            .expect("every target has seeds")
            .map(|entry| entry.expect("the folder can be read").path())
            .collect();
        files.sort();
        let words = fs::read_to_string(folder.join("words.dict")).expect("there are words");
        // `"text"` a line, a quote or backslash in it escaped.
        let word = |line: &str| {
            let text = line.strip_prefix('"')?.strip_suffix('"')?;
            Some(text.replace("\\\"", "\"").replace("\\\\", "\\").into_bytes())
        };
        Self {
            seeds: files
                .iter()
                .map(|file| fs::read(file).expect("a seed can be read"))
                .collect(),
            words: words.lines().filter_map(word).collect(),
        }
    }

    fn change(&self, data: &mut Vec<u8>, change: &Change) {
        let place = |at: &Index, data: &Vec<u8>| at.index(data.len() + 1);
        let piece = |from: usize, length: usize, data: &Vec<u8>| from..(from + length).min(data.len());
        match change {
            Change::Set(at, byte) => {
                let at = place(at, data);
                if let Some(place) = data.get_mut(at) {
                    *place = *byte;
                }
            }
            Change::Insert(at, bytes) => splice(data, at, bytes),
            Change::Word(at, word) => splice(data, at, word.get::<Vec<u8>>(&self.words)),
            Change::Cut(at, length) => drop(data.drain(piece(place(at, data), *length, data))),
            Change::Repeat(at, length) => {
                let piece = data
                    .get(piece(place(at, data), *length, data))
                    .unwrap_or_default()
                    .to_vec();
                splice(data, at, &piece);
            }
            Change::Join(at, other) => {
                data.truncate(place(at, data));
                let other = other.get(&self.seeds);
                data.extend_from_slice(other.get(at.index(other.len() + 1)..).unwrap_or_default());
            }
        }
    }
}

fn splice(data: &mut Vec<u8>, at: &Index, bytes: &[u8]) {
    let at = at.index(data.len() + 1);
    data.splice(at..at, bytes.iter().copied());
}

/// Runs a target on its seeds, on what changes make of them, and on noise.
fn drive((name, target): Target) {
    let inputs = Inputs::of(name);
    assert!(!inputs.words.is_empty());
    let reached = inputs.seeds.iter().filter(|seed| target(seed)).count();
    assert!(reached > 0, "no seed of {name} comes through");
    target(b"");
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let changes = (any::<Index>(), proptest::collection::vec(change(), 1..6));
    let outcome = TestRunner::new(config.clone()).run(&changes, |(seed, changes)| {
        let mut data = seed.get(&inputs.seeds).clone();
        for change in &changes {
            inputs.change(&mut data, change);
        }
        target(&data);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
    let noise = proptest::collection::vec(any::<u8>(), 0..200);
    let outcome = TestRunner::new(config).run(&noise, |data| {
        target(&data);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// One test for each target, so that a failure names it.
macro_rules! driven {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            drive((stringify!($target), targets::$target));
        })*

        #[test]
        fn every_target_is_driven() {
            let driven = [$(stringify!($target)),*];
            assert_eq!(driven, targets::ALL.map(|(name, _)| name));
        }
    };
}

driven! { header_map credentials json jws jwks claims config feed_page broker_reply }
