//! Reads one page of a revocation feed as those do who follow it, and judges whose it is and from when.

use std::fmt;

use kerbridge_gate::feed::{FeedError, UnverifiedPage};
use kerbridge_gate::jwk::KeySet;
use kerbridge_wire::feed::PageClaims;

use crate::signature;
use crate::time::UnixTime;

/// What is expected of a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    /// Whose feed it should be.
    pub(super) issuer: &'a str,
    /// How old it may be, in seconds.
    pub(super) old: u64,
    /// How far ahead the clock of its author may be, in seconds.
    pub(super) ahead: u64,
}

/// Why a page is of no use to who follows the feed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It is refused as it is.
    Refused(FeedError),
    /// It is this one's.
    Another(String),
    /// So many seconds old.
    Old(u64),
    /// So many seconds ahead.
    Ahead(u64),
}

/// The claims of a page that one of these keys has signed.
pub(super) fn read(page: Vec<u8>, keys: &KeySet) -> Result<PageClaims, Flaw> {
    let page = UnverifiedPage::read(page, keys).map_err(Flaw::Refused)?;
    let is_good = signature::is_good(page.signature());
    let page = page.resume(is_good).map_err(Flaw::Refused)?;
    Ok(page.claims().clone())
}

/// How old it is, in seconds, where that and its author are as they should be.
pub(super) fn judge(claims: &PageClaims, terms: Terms<'_>, now: UnixTime) -> Result<u64, Flaw> {
    if claims.iss != terms.issuer {
        return Err(Flaw::Another(claims.iss.clone()));
    }
    let made = UnixTime::from_seconds(claims.iat);
    match (made.until(now), now.until(made)) {
        (age, _) if age > terms.old => Err(Flaw::Old(age)),
        (_, ahead) if ahead > terms.ahead => Err(Flaw::Ahead(ahead)),
        (age, _) => Ok(age),
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "it is refused by who follows it: {error}"),
            Self::Another(issuer) => write!(f, "it is the feed of {issuer:?}"),
            Self::Old(age) => write!(
                f,
                "it is {age} s old: its broker cannot read its store, or that one's clock is behind"
            ),
            Self::Ahead(ahead) => write!(
                f,
                "it is from a time to come: the clock of its broker is {ahead} s ahead"
            ),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use kerbridge_wire::feed::{FORMAT, Hex, TYPE, join_page};

    use super::*;
    use crate::keyring::{KeyEncryptionKey, KeyRing, SigningAlgorithm};

    const ISSUER: &str = "https://broker.test";

    pub(in super::super) fn claims(iat: u64) -> PageClaims {
        PageClaims {
            format: FORMAT,
            iss: ISSUER.into(),
            iat,
            epoch: Hex([1; 16]),
            version: 7,
            base: None,
            page: 0,
            pages: 1,
            entries: 3,
            sha256: Hex([0; 32]),
            sha256_of_pages: None,
        }
    }

    #[test]
    fn a_page_is_judged_by_its_age_both_ways_and_by_its_issuer() {
        let now = UnixTime::from_seconds(1000);
        let terms = |issuer| Terms {
            issuer,
            old: 300,
            ahead: 5,
        };
        for (iat, outcome) in [
            (1000, Ok(0)),
            (700, Ok(300)),
            (699, Err(Flaw::Old(301))),
            (1005, Ok(0)),
            (1006, Err(Flaw::Ahead(6))),
        ] {
            assert_eq!(judge(&claims(iat), terms(ISSUER), now), outcome, "{iat}");
        }
        let another = judge(&claims(1000), terms("https://other.test"), now);
        assert_eq!(another, Err(Flaw::Another(ISSUER.into())));
    }

    #[test]
    fn a_page_that_filters_would_refuse_is_said_to_be_one() {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyEncryptionKey::from_base64(&"A".repeat(43)).unwrap();
        let keyring = KeyRing::open_or_create(folder.path(), &key).unwrap();
        let mut empty = claims(1000);
        empty.entries = 0;
        let signing = keyring.signing();
        let signed = crate::jws::sign(&signing, TYPE, &empty, tokio::time::Instant::now());
        let jws = crate::jws::tests::at_once(signed).unwrap();
        let page = join_page(&jws, &[]);
        let algorithms: Vec<_> = SigningAlgorithm::ALL.iter().map(|one| one.wire()).collect();
        let keys = |text: &str| KeySet::parse(text.as_bytes(), &algorithms).unwrap();
        assert_eq!(read(page.clone(), &keys(&keyring.jwks())), Ok(empty));
        let refused = read(page, &keys(r#"{"keys":[]}"#)).unwrap_err();
        assert!(refused.to_string().contains("refused"), "{refused}");
        assert!(read(b"nonsense".to_vec(), &keys(&keyring.jwks())).is_err());
    }
}
