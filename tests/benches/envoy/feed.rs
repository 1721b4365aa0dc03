//! Serves a revocation feed of a million entries, signed as the broker's would be.

use std::sync::Arc;

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::signer::Signer;
use kerbridge_tests::shipped::ISSUER;
use kerbridge_tests::token::now;
use kerbridge_wire::feed::{
    BodyHash, EVER, Entry, Epoch, FORMAT, Hex, PageClaims, RevocationKey, TYPE, bodies, body_hash, hash_of_pages,
    join_page,
};
use kerbridge_wire::feed_query::FeedQuery;

/// The one version that there is.
const VERSION: u64 = 1;

/// The store's name.
const EPOCH: Epoch = Hex([7; 16]);

/// The pages of one snapshot.
pub(crate) struct Feed {
    signer: Arc<Signer>,
    bodies: Vec<Vec<u8>>,
    hashes: Vec<BodyHash>,
    entries: usize,
}

impl Feed {
    /// The feed of these revocations, needed for ever.
    pub(crate) fn new(signer: Arc<Signer>, keys: &[RevocationKey]) -> Self {
        let entry = |key: &RevocationKey| Entry::new(*key, u64::from(EVER), None);
        let entries: Vec<Entry> = keys.iter().map(entry).collect();
        let bodies = bodies(&entries);
        Self {
            signer,
            hashes: bodies.iter().map(|body| body_hash(body)).collect(),
            bodies,
            entries: entries.len(),
        }
    }

    /// The answer to a request: a page, or that nothing happened since.
    pub(crate) fn answer(&self, target: &str) -> Result<Vec<u8>, HarnessError> {
        let (_, query) = target.split_once('?').unwrap_or((target, ""));
        match FeedQuery::parse(query) {
            FeedQuery::Since {
                epoch: EPOCH,
                version: VERSION,
            } => {
                let hash = body_hash(b"");
                self.page(Some(VERSION), 0, &[hash], &[Vec::new()], 0)
            }
            FeedQuery::Page { page, .. } => self.page(None, page, &self.hashes, &self.bodies, self.entries),
            FeedQuery::Snapshot | FeedQuery::Since { .. } => {
                self.page(None, 0, &self.hashes, &self.bodies, self.entries)
            }
        }
    }

    fn page(
        &self,
        base: Option<u64>,
        page: u32,
        hashes: &[BodyHash],
        bodies: &[Vec<u8>],
        entries: usize,
    ) -> Result<Vec<u8>, HarnessError> {
        let at = usize::try_from(page).unwrap_or(usize::MAX);
        let wrong = |why: &str| HarnessError::UnexpectedAnswer {
            what: format!("page {page} of the feed"),
            answer: why.to_owned(),
        };
        let (Some(body), Some(hash)) = (bodies.get(at), hashes.get(at)) else {
            return Err(wrong("there is none"));
        };
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let claims = PageClaims {
            format: FORMAT,
            iss: ISSUER.to_owned(),
            iat: now(),
            epoch: EPOCH,
            version: VERSION,
            base,
            page,
            pages: narrow(bodies.len()),
            entries: narrow(entries),
            sha256: *hash,
            sha256_of_pages: Some(hash_of_pages(hashes)),
        };
        let claims = serde_json::to_value(&claims).map_err(|error| wrong(&error.to_string()))?;
        Ok(join_page(&self.signer.sign(TYPE, &claims)?, body))
    }
}
