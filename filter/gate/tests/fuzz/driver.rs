//! Drives fuzz targets by proptest: all of their seeds, and what a few hundred random changes make of them. The gate's and the
//! broker's targets share it.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

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
        // Of the crate whose test this is.
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
        let mut files: Vec<_> = fs::read_dir(folder.join("seeds").join(name))
            .expect("every target has seeds")
            .map(|entry| entry.expect("the folder can be read").path())
            .collect();
        files.sort();
        let words = fs::read_to_string(folder.join("words.dict")).expect("there are words");
        // `"text"` a line, as libFuzzer reads it: a quote, a backslash or a byte in hexadecimal is escaped.
        let word = |line: &str| unescaped(line.strip_prefix('"')?.strip_suffix('"')?);
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

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((before, escape)) = rest.split_once('\\') {
        bytes.extend(before.as_bytes());
        rest = match escape.strip_prefix('x') {
            Some(digits) => {
                bytes.push(u8::from_str_radix(digits.get(..2)?, 16).ok()?);
                digits.get(2..)?
            }
            None => {
                bytes.push(*escape.as_bytes().first()?);
                escape.get(1..)?
            }
        };
    }
    bytes.extend(rest.as_bytes());
    Some(bytes)
}

fn splice(data: &mut Vec<u8>, at: &Index, bytes: &[u8]) {
    let at = at.index(data.len() + 1);
    data.splice(at..at, bytes.iter().copied());
}

/// Runs a target on its seeds, on what changes make of them, and on noise.
pub(crate) fn drive(name: &str, target: fn(&[u8]) -> bool) {
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
