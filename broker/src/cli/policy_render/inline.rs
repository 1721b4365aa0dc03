//! Gets what an Envoy needs that starts while the broker is away: its present keys, and all that is revoked, signed as it would
//! be fetched.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kerbridge_wire::exchange::FEED_PATH;
use kerbridge_wire::feed::{PageClaims, jws_length};
use kerbridge_wire::feed_query::FeedQuery;
use prometheus_client::metrics::histogram::Histogram;

use crate::admin::AdminError;
use crate::admin::client::{self, ClientError};
use crate::config::{Address, Config, ListenerName, Surroundings};
use crate::keyring::KeyRing;
use crate::metrics::Metrics;
use crate::problem::{Problem, Problems};
use crate::render::Inline;
use crate::revocation::Revocations;
use crate::state_lock::StateLock;
use crate::store::{FILE, KeptStore, not_lost};
use crate::time::Clock;

/// How often a snapshot is read anew whose pages did not belong together: one page of several may be gone when it is its turn.
const ATTEMPTS: usize = 3;

/// Of the broker of this configuration: from itself, or from its state folder while none runs.
pub(super) fn get(path: &Path) -> Result<Inline, Problems> {
    let config = Config::load(path, &Surroundings::of_process())?;
    let Some(keys) = config.keys() else {
        return Err(Problems::from(Problem {
            field: "keys".into(),
            problem: "this broker has none of its own".into(),
            remedy: "render where tokens are made, or without --inline-keys".into(),
        }));
    };
    let now = Clock::System.now();
    let keyring =
        KeyRing::open(config.keyring_place(), &keys.key_encryption_key, &keys.rotation, now).map_err(|error| {
            let remedy = format!("{}; the keys are made by the broker's first start", error.remedy());
            Problem {
                remedy,
                ..error.problem()
            }
        })?;
    let feed = match served(&config) {
        Some(served) => served.map_err(|AdminError { problem, remedy }| Problem {
            field: "listen.admin.unix".into(),
            problem,
            remedy,
        })?,
        None => stored(&config, &keyring)?,
    };
    Ok(Inline {
        keys: Some(keyring.jwks()),
        feed,
    })
}

/// What the broker that runs serves; `None` where none listens.
fn served(config: &Config) -> Option<Result<Vec<String>, AdminError>> {
    let socket = config.listeners().find_map(|listener| match &listener.address {
        Address::Unix { path, .. } if listener.name == ListenerName::Admin => Some(path),
        Address::Unix { .. } | Address::Tls { .. } | Address::Clear { .. } => None,
    })?;
    match pages(|query| client::get(socket, &query.target(FEED_PATH))) {
        Err(PagesError::Source(ClientError::Nobody)) => None,
        read => Some(read.map_err(|error| match error {
            PagesError::Source(error) => error.told(),
            PagesError::Torn => AdminError {
                problem: error.to_string(),
                remedy: "render again".into(),
            },
        })),
    }
}

/// What the store has, while no broker has it.
fn stored(config: &Config, keyring: &KeyRing) -> Result<Vec<String>, Problem> {
    if let Some(database) = config.database() {
        let store = KeptStore::in_made_database(database, config.limits().deadline)?;
        return pages_of(store, config, keyring);
    }
    let folder = config.state_dir();
    StateLock::look(folder).map_err(|problem| Problem {
        remedy: "let it have [listen.admin], or stop it".into(),
        ..problem
    })?;
    not_lost(folder)?;
    if !folder.join(FILE).exists() {
        return Ok(Vec::new());
    }
    let _lock = StateLock::take(folder)?;
    let store = KeptStore::in_file(folder, 16, config.limits().deadline, Histogram::new([1.0]))?;
    pages_of(store, config, keyring)
}

fn pages_of(store: KeptStore, config: &Config, keyring: &KeyRing) -> Result<Vec<String>, Problem> {
    let revocations = Revocations::new(Arc::new(store), config.issuer(), 0, Metrics::new().revocations());
    let failed = |error: &dyn fmt::Display| Problem {
        field: "state_dir".into(),
        problem: error.to_string(),
        remedy: "see whether its disk has room and works, or its database answers".into(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    let load = revocations.load(Clock::System);
    runtime.block_on(load).map_err(|error| failed(&error))?;
    pages(|query| runtime.block_on(revocations.page(query, &keyring.signing()))).map_err(|error| failed(&error))
}

/// Why there are no pages.
enum PagesError<E> {
    /// One is not to be had.
    Source(E),
    /// They are not of one snapshot.
    Torn,
}

impl<E: fmt::Display> fmt::Display for PagesError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => error.fmt(f),
            Self::Torn => f.write_str("the pages of the feed do not belong together"),
        }
    }
}

/// All pages of a snapshot, in base64.
fn pages<P: AsRef<[u8]>, E>(page: impl Fn(FeedQuery) -> Result<P, E>) -> Result<Vec<String>, PagesError<E>> {
    for _ in 0..ATTEMPTS {
        let first = page(FeedQuery::Snapshot).map_err(PagesError::Source)?;
        let claims = unverified_claims(first.as_ref()).ok_or(PagesError::Torn)?;
        let mut pages = vec![STANDARD.encode(first)];
        for number in 1..claims.pages {
            let query = FeedQuery::Page {
                epoch: claims.epoch,
                version: claims.version,
                base: None,
                page: number,
                at: Some(claims.iat),
            };
            let next = page(query).map_err(PagesError::Source)?;
            // Another snapshot begins with its first page.
            if unverified_claims(next.as_ref()).is_none_or(|next| next.page != number) {
                break;
            }
            pages.push(STANDARD.encode(next));
        }
        if u32::try_from(pages.len()).is_ok_and(|count| count == claims.pages) {
            return Ok(pages);
        }
    }
    Err(PagesError::Torn)
}

/// What a page says of itself. The filter verifies it.
fn unverified_claims(page: &[u8]) -> Option<PageClaims> {
    let jws = page.get(..jws_length(page)?)?;
    let payload = jws.split(|byte| *byte == b'.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}
