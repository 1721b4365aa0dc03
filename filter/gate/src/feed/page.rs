//! Reads a page of the feed: sizes, the shape, the key that must have signed it, and behind a good signature its claims.

use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kerbridge_wire::Reason;
use kerbridge_wire::feed::{
    BODY_LIMIT, ENTRIES_LIMIT, ENTRY_BYTES, FORMAT, JWS_LIMIT, PAGE_ENTRIES, PAGES_LIMIT, PageClaims, TYPE, jws_length,
};

use super::FeedError;
use crate::jwk::KeySet;
use crate::jwt::{CompactJws, SignatureInput};
use crate::time::UnixTime;

/// Longest page, in bytes.
pub const PAGE_LIMIT: usize = JWS_LIMIT + 1 + BODY_LIMIT;

/// A page whose signature nobody has checked.
#[derive(Debug)]
pub struct UnverifiedPage {
    input: SignatureInput,
    signer: Rc<str>,
    payload: Vec<u8>,
    body: Body,
}

/// A page whose claims the owner of one of `keys` has signed. Its body may still be another's: the hash of it is checked
/// while it is read.
#[derive(Debug)]
pub struct VerifiedPage {
    pub(super) claims: PageClaims,
    pub(super) issued: UnixTime,
    signer: Rc<str>,
    pub(super) body: Body,
}

/// The body of a page, in the bytes in which it came.
#[derive(Debug)]
pub(super) struct Body {
    page: Vec<u8>,
    at: usize,
}

impl Body {
    /// What is not read yet.
    pub(super) fn rest(&self) -> &[u8] {
        self.page.get(self.at..).unwrap_or_default()
    }

    pub(super) fn advance(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
    }
}

impl UnverifiedPage {
    /// Takes a page apart and chooses the key: one of `keys`, which are those of the issuer whose feed it should be.
    ///
    /// # Errors
    /// [`FeedError::TooLarge`], [`FeedError::Malformed`], [`FeedError::WrongType`], [`FeedError::Signature`].
    pub fn read(page: Vec<u8>, keys: &KeySet) -> Result<Self, FeedError> {
        if page.len() > PAGE_LIMIT {
            return Err(FeedError::TooLarge);
        }
        let length = jws_length(&page).ok_or(FeedError::Malformed)?;
        let at = length.saturating_add(1);
        let body = page.len().saturating_sub(at);
        if body > BODY_LIMIT {
            return Err(FeedError::TooLarge);
        }
        if body.checked_rem(ENTRY_BYTES) != Some(0) {
            return Err(FeedError::Malformed);
        }
        let jws = page.get(..length).ok_or(FeedError::Malformed)?;
        let payload = jws.split(|byte| *byte == b'.').nth(1).ok_or(FeedError::Malformed)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| FeedError::Malformed)?;
        let jws = CompactJws::parse(jws).map_err(|reason| {
            if reason == Reason::WrongType {
                FeedError::WrongType
            } else {
                FeedError::Malformed
            }
        })?;
        if jws.typ.as_deref() != Some(TYPE) {
            return Err(FeedError::WrongType);
        }
        let kid = jws.key_id.as_deref().ok_or(FeedError::Signature(Reason::UnknownKey))?;
        let input = keys
            .find(kid, &jws.algorithm)
            .and_then(|key| SignatureInput::new(key, &jws))
            .map_err(FeedError::Signature)?;
        Ok(Self {
            input,
            signer: kid.into(),
            payload,
            body: Body { page, at },
        })
    }

    /// What must be verified, by the host or in pure Rust.
    pub const fn signature(&self) -> &SignatureInput {
        &self.input
    }

    /// Goes on with the answer: whether the signature is good.
    ///
    /// # Errors
    /// [`FeedError::Signature`] if it is not; [`FeedError::Format`], [`FeedError::Malformed`],
    /// [`FeedError::TooManyEntries`], [`FeedError::CountsDisagree`] for claims that cannot be true.
    pub fn resume(self, is_good: bool) -> Result<VerifiedPage, FeedError> {
        let Self {
            input: _,
            signer,
            payload,
            body,
        } = self;
        if !is_good {
            return Err(FeedError::Signature(Reason::BadSignature));
        }
        // First the number alone: another format may have other claims.
        let Format { format } = serde_json::from_slice(&payload).map_err(|_| FeedError::Malformed)?;
        if format != FORMAT {
            return Err(FeedError::Format);
        }
        let claims: PageClaims = serde_json::from_slice(&payload).map_err(|_| FeedError::Malformed)?;
        let page = VerifiedPage {
            issued: UnixTime::from_seconds(claims.iat).ok_or(FeedError::Malformed)?,
            claims,
            signer,
            body,
        };
        page.check()?;
        Ok(page)
    }
}

#[derive(serde::Deserialize)]
struct Format {
    format: u32,
}

impl VerifiedPage {
    /// Its claims.
    pub const fn claims(&self) -> &PageClaims {
        &self.claims
    }

    /// The name of the key that signed it.
    pub const fn signer(&self) -> &Rc<str> {
        &self.signer
    }

    /// Entries in this page.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.body.rest().len().checked_div(ENTRY_BYTES).unwrap_or(0)).unwrap_or(u32::MAX)
    }

    /// Whether the claims can be true together, before anything is kept for their sake.
    fn check(&self) -> Result<(), FeedError> {
        let PageClaims {
            version,
            base,
            page,
            pages,
            entries,
            sha256_of_pages,
            ..
        } = self.claims;
        let is_bound = pages == 1 || sha256_of_pages.is_some();
        if !is_bound || page >= pages || base.is_some_and(|base| base > version) {
            return Err(FeedError::Malformed);
        }
        if entries > ENTRIES_LIMIT || pages > PAGES_LIMIT {
            return Err(FeedError::TooManyEntries);
        }
        // Each page has an entry, but for the one page of nothing at all.
        let room = u64::from(pages).saturating_mul(PAGE_ENTRIES as u64);
        let is_full = if entries == 0 { pages == 1 } else { self.count() > 0 };
        if u64::from(entries) > room || pages > entries.max(1) || self.count() > entries || !is_full {
            return Err(FeedError::CountsDisagree);
        }
        Ok(())
    }
}
