//! Answers what filters ask: chooses the snapshot or delta, cuts it into pages, and signs each once a second at most.
//!
//! What was cut is kept for a while, and within bounds, so that many filters that ask the same cost what one does. Whoever reads a
//! snapshot of several pages finds the next one as it was when the first was read, whatever was revoked meanwhile, here or at
//! another broker of the same store: what is cut follows from the version that is asked for and from the minute in which the
//! first page was signed, by which is left out what no token can need any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use axum::body::Bytes;
use kerbridge_wire::feed::{
    BODY_LIMIT, BodyHash, ENTRY_BYTES, FORMAT, Hex, PAGE_ENTRIES, PageClaims, TYPE, hash_of_pages, join_page,
};
use kerbridge_wire::feed_query::FeedQuery;
use ring::digest;
use tokio::time::Instant;

use super::PageError;
use super::view::View;
use crate::jws;
use crate::keyring::{NotSigned, SigningKey};
use crate::store::Position;
use crate::time::UnixTime;

/// Snapshots and deltas that are kept.
const MOST_KEPT: usize = 16;
/// Most bytes of all that are kept together; the last one is kept whatever it has.
const MOST_BYTES: usize = 256 * 1024 * 1024;
/// How long a page may take: filters wait for two seconds.
const LONGEST: Duration = Duration::from_millis(1500);
/// Seconds for which a snapshot of several pages is given to who asks for the newest: cutting one costs milliseconds, and the
/// next question is for what is newer anyway.
const RECENT: u64 = 2;
/// By how much, in seconds, the first page that is gone on from may be older or newer than the last look. Together with a minute
/// and with what verifiers heed it stays below [`KEPT_LONGER`](crate::store::KEPT_LONGER), so that all that is told is there.
const GOES_ON_FOR: u64 = 120;
/// Seconds in which what is cut stays the same.
const MINUTE: u64 = 60;

/// The pages of one issuer's feed.
#[derive(Debug)]
pub(super) struct Pages {
    issuer: String,
    kept: Mutex<Vec<Cut>>,
    /// One cuts and signs at a time: who waited finds it done.
    cutting: tokio::sync::Mutex<()>,
}

/// Which snapshot or delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name {
    newest: Position,
    base: Option<u64>,
    /// What was needed then is in it.
    minute: u64,
}

/// A snapshot or delta, cut into pages. The last used stand last.
#[derive(Debug)]
struct Cut {
    name: Name,
    entries: u32,
    pages: Vec<CutPage>,
    sha256_of_pages: BodyHash,
    /// When its version was the newest.
    as_of: UnixTime,
}

#[derive(Debug)]
struct CutPage {
    body: Vec<u8>,
    sha256: BodyHash,
    signed: Option<Signed>,
}

#[derive(Debug)]
struct Signed {
    as_of: UnixTime,
    key: String,
    jws: String,
}

/// A page that is there.
enum Found {
    /// Signed lately.
    Signed(Bytes),
    /// To be signed.
    Unsigned(Unsigned),
}

struct Unsigned {
    name: Name,
    claims: Box<PageClaims>,
}

impl Pages {
    pub(super) fn new(issuer: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            kept: Mutex::default(),
            cutting: tokio::sync::Mutex::default(),
        }
    }

    pub(super) async fn page(
        &self,
        query: FeedQuery,
        view: &Arc<RwLock<View>>,
        key: &SigningKey,
    ) -> Result<Bytes, PageError> {
        let until = Instant::now().checked_add(LONGEST).unwrap_or_else(Instant::now);
        let made = self.made(query, view, key, until);
        let made = tokio::time::timeout_at(until, made).await;
        made.unwrap_or(Err(PageError::Signature(NotSigned::Late)))
    }

    async fn made(
        &self,
        query: FeedQuery,
        view: &Arc<RwLock<View>>,
        key: &SigningKey,
        until: Instant,
    ) -> Result<Bytes, PageError> {
        if let Some(Found::Signed(page)) = self.kept_page(query, view, key)? {
            return Ok(page);
        }
        let _one = self.cutting.lock().await;
        let unsigned = match self.kept_page(query, view, key)? {
            Some(Found::Signed(page)) => return Ok(page),
            Some(Found::Unsigned(unsigned)) => unsigned,
            None => self.cut(query, view).await?,
        };
        let jws = jws::sign(key, TYPE, &unsigned.claims, until)
            .await
            .map_err(PageError::Signature)?;
        self.signed(&unsigned, key, jws)
    }

    /// Cuts what is asked for, and says what the page claims that answers.
    async fn cut(&self, query: FeedQuery, view: &Arc<RwLock<View>>) -> Result<Unsigned, PageError> {
        let view = Arc::clone(view);
        let cut = move || {
            let view = view.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(Asked { name, as_of, page }) = goes_on(query, &view) {
                let cut = Cut::of(name, bodies(&view, name), as_of);
                if cut.at(page).is_some() {
                    return Ok((cut, page));
                }
            }
            let name = begins(query, &view)?;
            let (bodies, as_of) = (bodies(&view, name), view.as_of());
            drop(view);
            Ok((Cut::of(name, bodies, as_of), 0))
        };
        // The copy and the hash of a million entries take tens of milliseconds.
        let cut = tokio::task::spawn_blocking(cut).await;
        let (cut, page): (Cut, u32) = cut.map_err(|_| PageError::Gone)??;
        let unsigned = Unsigned {
            name: cut.name,
            claims: Box::new(cut.claims(page, &self.issuer).ok_or(PageError::NotRead)?),
        };
        let mut kept = self.kept();
        kept.retain(|other| other.name != cut.name);
        kept.push(cut);
        while kept.len() > MOST_KEPT || (kept.len() > 1 && kept.iter().map(Cut::bytes).sum::<usize>() > MOST_BYTES) {
            kept.remove(0);
        }
        Ok(unsigned)
    }

    /// The page of these claims, with its signature, which is kept.
    fn signed(&self, unsigned: &Unsigned, key: &SigningKey, jws: String) -> Result<Bytes, PageError> {
        let Unsigned { name, claims } = unsigned;
        let at = usize::try_from(claims.page).unwrap_or(usize::MAX);
        let mut kept = self.kept();
        let cut = kept.iter_mut().find(|cut| cut.name == *name);
        let page = cut.and_then(|cut| cut.pages.get_mut(at)).ok_or(PageError::Gone)?;
        let joined = join_page(&jws, &page.body).into();
        page.signed = Some(Signed {
            as_of: UnixTime::from_seconds(claims.iat),
            key: key.id().to_owned(),
            jws,
        });
        Ok(joined)
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Cut>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page, where its snapshot or delta was cut before.
    fn kept_page(&self, query: FeedQuery, view: &RwLock<View>, key: &SigningKey) -> Result<Option<Found>, PageError> {
        let view = view.read().unwrap_or_else(PoisonError::into_inner);
        let first = begins(query, &view)?;
        let (as_of, can_be_cut) = (view.as_of(), goes_on(query, &view).is_some());
        drop(view);
        let mut kept = self.kept();
        let found = match query {
            FeedQuery::Page {
                epoch,
                version,
                base,
                page,
                at,
            } => {
                let is_it = |Name {
                                 newest,
                                 base: from,
                                 minute,
                             }: Name| {
                    (newest, from) == (Position { epoch, version }, base) && at.is_none_or(|at| minute == minute_of(at))
                };
                let found = kept.iter().rposition(|cut| is_it(cut.name) && cut.at(page).is_some());
                if found.is_none() && can_be_cut {
                    return Ok(None);
                }
                found.map(|at| (at, page))
            }
            FeedQuery::Snapshot | FeedQuery::Since { .. } => None,
        };
        let found = found.or_else(|| {
            let is_it = |cut: &Cut| cut.name == first;
            let is_recent = |cut: &Cut| {
                cut.name.base.is_none()
                    && cut.name.newest.epoch == first.newest.epoch
                    && cut.pages.len() > 1
                    && cut.name.minute == minute_of(cut.as_of.seconds())
                    && cut.as_of.until(as_of) <= RECENT
            };
            let at = kept.iter().position(is_it);
            let at = at.or_else(|| kept.iter().rposition(is_recent).filter(|_| first.base.is_none()));
            at.map(|at| (at, 0))
        });
        let Some((at, page)) = found else {
            return Ok(None);
        };
        let mut cut = kept.remove(at);
        if (cut.name.newest, cut.name.minute) == (first.newest, first.minute) {
            cut.as_of = as_of;
        }
        let found = cut.signed(page, key).map(Found::Signed);
        let found = found.or_else(|| {
            let claims = Box::new(cut.claims(page, &self.issuer)?);
            Some(Found::Unsigned(Unsigned { name: cut.name, claims }))
        });
        kept.push(cut);
        found.map(Some).ok_or(PageError::NotRead)
    }
}

/// What answers a question from its first page: a delta where there can be one, else all of it.
fn begins(query: FeedQuery, view: &View) -> Result<Name, PageError> {
    let newest = view.newest().ok_or(PageError::NotRead)?;
    let base = match query {
        FeedQuery::Since { epoch, version } => {
            (epoch == newest.epoch && (view.oldest()..=newest.version).contains(&version)).then_some(version)
        }
        FeedQuery::Snapshot | FeedQuery::Page { .. } => None,
    };
    Ok(Name {
        newest,
        base,
        minute: minute_of(view.as_of().seconds()),
    })
}

/// A later page that can be cut, whoever cut the first.
struct Asked {
    name: Name,
    as_of: UnixTime,
    page: u32,
}

/// The later page that is asked for, where it can be told as it was.
fn goes_on(query: FeedQuery, view: &View) -> Option<Asked> {
    let FeedQuery::Page {
        epoch,
        version,
        base,
        page,
        at,
    } = query
    else {
        return None;
    };
    let (newest, now) = (view.newest()?, view.as_of().seconds());
    let at = at.unwrap_or(now);
    let is_there = usize::try_from(page).is_ok_and(|page| page <= view.most().checked_div(PAGE_ENTRIES).unwrap_or(0));
    let builds_on = base.is_none_or(|base| (view.oldest()..=version).contains(&base));
    if epoch != newest.epoch || at.abs_diff(now) > GOES_ON_FOR || !is_there || !builds_on {
        return None;
    }
    Some(Asked {
        name: Name {
            newest: Position { epoch, version },
            base,
            minute: minute_of(at),
        },
        as_of: view.told_as_of(version)?,
        page,
    })
}

fn minute_of(seconds: u64) -> u64 {
    seconds.checked_div(MINUTE).unwrap_or(0)
}

/// As [`kerbridge_wire::feed::bodies`] makes them.
fn bodies(view: &View, name: Name) -> Vec<Vec<u8>> {
    let needed = UnixTime::from_seconds(name.minute.saturating_mul(MINUTE));
    let mut bodies = vec![Vec::new()];
    for entry in view.between(name.base.unwrap_or(0), name.newest.version, needed) {
        match bodies.last_mut() {
            Some(body) if body.len() < PAGE_ENTRIES.saturating_mul(ENTRY_BYTES) => {
                body.extend_from_slice(&entry.to_bytes());
            }
            Some(_) | None => {
                let mut body = Vec::with_capacity(BODY_LIMIT);
                body.extend_from_slice(&entry.to_bytes());
                bodies.push(body);
            }
        }
    }
    bodies
}

impl Cut {
    fn of(name: Name, bodies: Vec<Vec<u8>>, as_of: UnixTime) -> Self {
        let bytes: usize = bodies.iter().map(Vec::len).sum();
        let pages: Vec<CutPage> = bodies
            .into_iter()
            .map(|body| CutPage {
                sha256: hash(&body),
                body,
                signed: None,
            })
            .collect();
        let hashes: Vec<BodyHash> = pages.iter().map(|page| page.sha256).collect();
        Self {
            name,
            entries: u32::try_from(bytes.checked_div(ENTRY_BYTES).unwrap_or(0)).unwrap_or(u32::MAX),
            pages,
            sha256_of_pages: hash_of_pages(&hashes),
            as_of,
        }
    }

    fn bytes(&self) -> usize {
        let bodies = self.pages.iter().map(|page| page.body.len());
        bodies.fold(1024, usize::saturating_add)
    }

    fn at(&self, number: u32) -> Option<&CutPage> {
        self.pages.get(usize::try_from(number).ok()?)
    }

    /// A page that this key has signed for this moment.
    fn signed(&self, number: u32, key: &SigningKey) -> Option<Bytes> {
        let page = self.at(number)?;
        let signed = page.signed.as_ref();
        let signed = signed.filter(|signed| signed.as_of == self.as_of && signed.key == key.id())?;
        Some(join_page(&signed.jws, &page.body).into())
    }

    fn claims(&self, number: u32, issuer: &str) -> Option<PageClaims> {
        Some(PageClaims {
            format: FORMAT,
            iss: issuer.to_owned(),
            iat: self.as_of.seconds(),
            epoch: self.name.newest.epoch,
            version: self.name.newest.version,
            base: self.name.base,
            page: number,
            pages: u32::try_from(self.pages.len()).unwrap_or(u32::MAX),
            entries: self.entries,
            sha256: self.at(number)?.sha256,
            sha256_of_pages: Some(self.sha256_of_pages),
        })
    }
}

fn hash(body: &[u8]) -> BodyHash {
    let mut hash = Hex([0; 32]);
    for (to, from) in hash.0.iter_mut().zip(digest::digest(&digest::SHA256, body).as_ref()) {
        *to = *from;
    }
    hash
}

#[cfg(test)]
impl Pages {
    pub(super) fn count(&self) -> usize {
        self.kept().len()
    }
}
