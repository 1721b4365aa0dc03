//! An issuer that signs pages of revocations, whatever is in them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kerbridge_gate::feed::{Accepted, Feed, FeedError, Origin, Progress, UnverifiedPage, VerifiedPage};
use kerbridge_gate::jwk::KeySet;
use kerbridge_gate::jwt::SignatureInput;
use kerbridge_gate::revocation::RevocationKeys;
use kerbridge_gate::time::UnixTime;
use kerbridge_wire::feed::{
    BodyHash, ENTRY_BYTES, Entry, FORMAT, Hex, PageClaims, RevocationKey, TYPE, body_hash, hash_of_pages, join_page,
};
use kerbridge_wire::filter_config::Algorithm;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};

pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const NAME: &str = "https://broker.test";
pub(crate) const SKEW: u64 = 60;
pub(crate) const STALENESS: u32 = 300;

pub(crate) fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds).unwrap()
}

pub(crate) fn feed() -> Feed {
    Feed::new(NAME.into(), SKEW, STALENESS)
}

/// The revocation of a subject by number.
pub(crate) fn entry(number: u64, needed_until: u64, issued: Option<u64>) -> Entry {
    Entry::new(RevocationKey::subject(NAME, &number.to_string()), needed_until, issued)
}

/// What names a token of a subject by number.
pub(crate) fn token_of(number: u64) -> RevocationKeys {
    RevocationKeys::new(NAME, Some("a token"), None, &number.to_string())
}

pub(crate) fn claims() -> PageClaims {
    PageClaims {
        format: FORMAT,
        iss: NAME.into(),
        iat: NOW,
        epoch: Hex([1; 16]),
        version: 1,
        base: None,
        page: 0,
        pages: 1,
        entries: 0,
        sha256: body_hash(b""),
        sha256_of_pages: None,
    }
}

pub(crate) struct Issuer {
    pair: EcdsaKeyPair,
    pub(crate) keys: KeySet,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let point = pair.public_key().as_ref();
        let [x, y] = [1..33, 33..65].map(|half| URL_SAFE_NO_PAD.encode(&point[half]));
        let set = format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"k","x":"{x}","y":"{y}"}}]}}"#);
        let keys = KeySet::parse(set.as_bytes(), &[Algorithm::Es256]).unwrap();
        Self { pair, keys }
    }

    pub(crate) fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A page with exactly these claims.
    pub(crate) fn page_as_said(&self, claims: &PageClaims, body: &[u8]) -> Vec<u8> {
        let header = format!(r#"{{"alg":"ES256","typ":"{TYPE}","kid":"k"}}"#);
        join_page(&self.sign(&header, &serde_json::to_string(claims).unwrap()), body)
    }

    /// The pages of a snapshot or delta, so many entries in each; `claims` says the rest.
    pub(crate) fn pages(&self, claims: &PageClaims, entries: &[Entry], each: usize) -> Vec<Vec<u8>> {
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_bytes()).collect();
        let bodies: Vec<&[u8]> = if bytes.is_empty() {
            vec![&[]]
        } else {
            bytes.chunks(each * ENTRY_BYTES).collect()
        };
        let hashes: Vec<BodyHash> = bodies.iter().map(|body| body_hash(body)).collect();
        let page = |(page, body): (usize, &&[u8])| {
            let claims = PageClaims {
                page: page.try_into().unwrap(),
                pages: bodies.len().try_into().unwrap(),
                entries: entries.len().try_into().unwrap(),
                sha256: hashes[page],
                sha256_of_pages: Some(hash_of_pages(&hashes)),
                ..claims.clone()
            };
            self.page_as_said(&claims, body)
        };
        bodies.iter().enumerate().map(page).collect()
    }

    /// Reads a page as a filter with this issuer's keys does, by native crypto.
    pub(crate) fn verify(&self, page: &[u8]) -> Result<VerifiedPage, FeedError> {
        let page = UnverifiedPage::read(page.to_vec(), &self.keys)?;
        let is_good = natively(page.signature());
        page.resume(is_good)
    }

    /// Gives a page to a feed and lets it read to the end of it.
    pub(crate) fn give(&self, feed: &mut Feed, page: &[u8], now: u64) -> Result<Given, FeedError> {
        let accepted = feed.accept(self.verify(page)?, Origin::Fetched, at(now))?;
        if accepted != Accepted::Reading {
            return Ok(Given::Nothing(accepted));
        }
        loop {
            match feed.step(at(now))? {
                Progress::Working => {}
                Progress::Idle => return Ok(Given::Part),
                Progress::Published => return Ok(Given::Whole),
            }
        }
    }

    /// The same for pages that are all taken.
    pub(crate) fn give_all(&self, feed: &mut Feed, pages: &[Vec<u8>], now: u64) {
        let (last, before) = pages.split_last().unwrap();
        for page in before {
            assert_eq!(self.give(feed, page, now), Ok(Given::Part));
        }
        assert_eq!(self.give(feed, last, now), Ok(Given::Whole));
    }
}

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    Nothing(Accepted),
    Part,
    Whole,
}

/// The check that a host does.
fn natively(input: &SignatureInput) -> bool {
    let check = input.native().unwrap();
    assert_eq!(check.hash, "sha256");
    // The key's point is the end of its SubjectPublicKeyInfo.
    let point = &check.key[check.key.len() - 65..];
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
        .verify(check.text, &check.signature)
        .is_ok()
}
