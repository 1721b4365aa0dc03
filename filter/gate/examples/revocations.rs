//! Prints what a feed costs by its size: memory, the longest step, and instructions of a look-up.
//!
//! ```text
//! cargo run --release -p kerbridge-gate --example revocations
//! ```
//!
//! With two numbers as its arguments it reads a feed of so many entries and does so many look-ups: that is what it runs
//! itself with for each line, twice under valgrind, where it is there, with and without look-ups. The difference is theirs.

#![forbid(unsafe_code)]
#![expect(clippy::arithmetic_side_effects, reason = "its numbers are its own")]

use std::error::Error;
use std::hint::black_box;
use std::io::{Write, stdout};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kerbridge_gate::UnixTime;
use kerbridge_gate::feed::{Accepted, Feed, Known, Origin, Progress, UnverifiedPage};
use kerbridge_gate::jwk::KeySet;
use kerbridge_gate::revocation::RevocationKeys;
use kerbridge_wire::feed::{
    BodyHash, Entry, FORMAT, Hex, PageClaims, RevocationKey, TYPE, bodies, body_hash, hash_of_pages, join_page,
};
use kerbridge_wire::filter_config::Algorithm;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Look-ups that are counted: each of a token's three keys, one in ten of a revoked token.
const LOOKUPS: u64 = 1_000_000;
/// Revoked tokens that are looked up; the other entries are nobody's.
const SHOWN: u64 = 100;
const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://broker.test";
const SIZES: [u64; 7] = [0, 1, 100, 1000, 10_000, 100_000, 1_000_000];

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [size, lookups] => one(size.parse()?, lookups.parse()?),
        _ => all(),
    }
}

/// One line for each size.
fn all() -> Outcome<()> {
    writeln!(
        stdout(),
        "{:>9} {:>9} {:>7} {:>9} {:>7} {:>10} {:>12}",
        "entries",
        "bytes",
        "each",
        "resident",
        "steps",
        "longest",
        "look-up"
    )?;
    for size in SIZES {
        let me = std::env::current_exe()?;
        let plain = Command::new(&me)
            .args([size.to_string(), LOOKUPS.to_string()])
            .output()?;
        let line = String::from_utf8(plain.stdout)?;
        let with_and_without = instructions(&me, size, LOOKUPS).zip(instructions(&me, size, 0));
        let counted = match with_and_without {
            Some((with, without)) => format!("{} instr", with.saturating_sub(without) / LOOKUPS),
            None => "no valgrind".into(),
        };
        writeln!(stdout(), "{} {counted:>12}", line.trim_end())?;
    }
    Ok(())
}

/// Instructions of the whole process.
fn instructions(me: &Path, size: u64, lookups: u64) -> Option<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(me);
    let output = valgrind.args([size.to_string(), lookups.to_string()]).output().ok()?;
    let text = String::from_utf8(output.stderr).ok()?;
    text.lines()
        .find_map(|line| line.split("Collected : ").nth(1))?
        .trim()
        .parse()
        .ok()
}

fn one(size: u64, lookups: u64) -> Outcome<()> {
    let now = UnixTime::from_seconds(NOW).ok_or("no time")?;
    let before = resident()?;
    let (known, steps, longest) = read(size, now)?;
    let keys: Vec<RevocationKeys> = (0..1000).map(|number| token(number, size)).collect();
    let found = look_up(&known, &keys, lookups, now);
    let expected = if size == 0 { 0 } else { lookups / 10 };
    if found != expected {
        return Err(format!("{found} of {expected} found").into());
    }
    let bytes = known.revocations.bytes();
    let each = if size == 0 { 0.0 } else { bytes as f64 / size as f64 };
    let grown = resident()?.saturating_sub(before) / 1024;
    writeln!(
        stdout(),
        "{size:>9} {bytes:>9} {each:>7.1} {grown:>5} KiB {steps:>7} {:>7} µs",
        longest.as_micros()
    )?;
    Ok(())
}

/// The token of a request: every tenth is revoked.
fn token(number: u64, size: u64) -> RevocationKeys {
    let id = match number % 10 {
        0 if size > 0 => (number / 10 % size.min(SHOWN)).to_string(),
        _ => format!("good {number}"),
    };
    RevocationKeys::new(ISSUER, Some(&id), Some("session"), "alice@LAB.TEST")
}

#[inline(never)]
fn look_up(known: &Known, keys: &[RevocationKeys], lookups: u64, now: UnixTime) -> u64 {
    let mut found = 0;
    for (_, keys) in (0..lookups).zip(keys.iter().cycle()) {
        found += u64::from(black_box(known).check(black_box(keys), now, now).is_err());
    }
    found
}

/// Reads a feed of so many revoked tokens; says in how many steps, and how long the longest was.
fn read(size: u64, now: UnixTime) -> Outcome<(Known, u32, Duration)> {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(|_| "no key")?;
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).map_err(|_| "no key")?;
    let coordinate = |half: std::ops::Range<usize>| {
        pair.public_key()
            .as_ref()
            .get(half)
            .map(|half| URL_SAFE_NO_PAD.encode(half))
    };
    let (x, y) = coordinate(1..33).zip(coordinate(33..65)).ok_or("no point")?;
    let set = format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"k","x":"{x}","y":"{y}"}}]}}"#);
    let keys = KeySet::parse(set.as_bytes(), &[Algorithm::Es256]).map_err(|_| "no key set")?;

    // Pages are made one by one, so that what stays in memory is the feed's.
    let entry = |number: u64| {
        let key = if number < SHOWN {
            RevocationKey::token(ISSUER, &number.to_string())
        } else {
            nobody(number)
        };
        Entry::new(key, NOW + 900, None)
    };
    let each = kerbridge_wire::feed::PAGE_ENTRIES as u64;
    let body = |page: u64| -> Option<Vec<u8>> {
        let entries: Vec<Entry> = (page * each..size.min((page + 1) * each)).map(entry).collect();
        bodies(&entries).pop()
    };
    let pages = size.div_ceil(each).max(1);
    let hashes: Vec<BodyHash> = (0..pages).filter_map(body).map(|body| body_hash(&body)).collect();
    let mut feed = Feed::new(ISSUER.into(), 60, 300);
    let (mut steps, mut longest) = (0, Duration::ZERO);
    for (page, hash) in (0..pages).zip(&hashes) {
        let claims = PageClaims {
            format: FORMAT,
            iss: ISSUER.into(),
            iat: NOW,
            epoch: Hex([1; 16]),
            version: size,
            base: None,
            page: page.try_into()?,
            pages: pages.try_into()?,
            entries: size.try_into()?,
            sha256: *hash,
            sha256_of_pages: Some(hash_of_pages(&hashes)),
        };
        let header = format!(r#"{{"alg":"ES256","typ":"{TYPE}","kid":"k"}}"#);
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_string(&claims)?);
        let signed = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header));
        let signature = pair.sign(&random, signed.as_bytes()).map_err(|_| "no signature")?;
        let jws = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        let page = UnverifiedPage::read(join_page(&jws, &body(page).unwrap_or_default()), &keys)?;
        let is_good = page.signature().verify();
        if feed.accept(page.resume(is_good)?, Origin::Fetched, now)? != Accepted::Reading {
            return Err("page not read".into());
        }
        loop {
            #[expect(clippy::disallowed_methods, reason = "it is time that is measured")]
            let begun = std::time::Instant::now();
            let progress = feed.step(now)?;
            longest = longest.max(begun.elapsed());
            steps += 1;
            if progress != Progress::Working {
                break;
            }
        }
    }
    Ok((feed.known().ok_or("nothing known")?, steps, longest))
}

/// A key of nobody's token. Keys are spread as hashes are (SplitMix64), without the time that a hash takes.
fn nobody(number: u64) -> RevocationKey {
    let mix = |x: u64| {
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(x ^ (x >> 31))
    };
    RevocationKey((mix(number << 1) << 64 | mix(number << 1 | 1)).to_be_bytes())
}

/// Bytes of memory that the process has.
fn resident() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024)
}
