//! Is an issuer of the test's own: publishes keys and rotates them, signs tokens, and serves a signed revocation feed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kerbridge_wire::feed::{
    BodyHash, Entry, Epoch, FORMAT, Hex, PageClaims, RevocationKey, TYPE, bodies, body_hash, hash_of_pages, join_page,
};
use kerbridge_wire::feed_query::FeedQuery;
use serde_json::{Value, json};

use crate::error::HarnessError;
use crate::scripted_server::{Incoming, Reply, ScriptedServer};
use crate::token::{self, LabKey, with};
use crate::upstream::target;
use crate::world::WorldBuilder;

/// The `iss` of its tokens.
pub const ISSUER: &str = "https://id.example.net";
/// What the filter's statistics call it.
pub const NAME: &str = "id";
/// Where its keys are.
pub const KEYS: &str = "/keys";
/// Where its revocations are.
pub const FEED: &str = "/feed";

/// A server of keys and revocations on a free port of 127.0.0.1, and what it signs with.
pub struct Issuer {
    server: ScriptedServer,
    state: Arc<Mutex<State>>,
}

struct State {
    published: Vec<Arc<LabKey>>,
    signs: Arc<LabKey>,
    /// The key that signs the feed instead.
    feed_signs: Option<Arc<LabKey>>,
    epoch: Epoch,
    /// By version, from 1: what was revoked.
    revoked: Vec<Vec<Entry>>,
    /// The bodies of a full snapshot of the newest version: a large one takes longer to write than the filter waits.
    snapshot: Bodies,
    is_away: bool,
    /// What is answered in place of a page of the feed.
    instead: Option<Reply>,
}

/// The bodies of all pages of one answer.
#[derive(Clone, Default)]
struct Bodies {
    bodies: Arc<Vec<Vec<u8>>>,
    hashes: Vec<BodyHash>,
    entries: u32,
}

impl Bodies {
    fn of(entries: &[Entry]) -> Self {
        let bodies = bodies(entries);
        Self {
            hashes: bodies.iter().map(|body| body_hash(body)).collect(),
            bodies: Arc::new(bodies),
            entries: u32::try_from(entries.len()).unwrap_or(u32::MAX),
        }
    }
}

impl Issuer {
    /// Starts with one key and nothing revoked.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn start() -> Result<Self, HarnessError> {
        let key = new_key()?;
        let state = Arc::new(Mutex::new(State {
            published: vec![Arc::clone(&key)],
            signs: key,
            feed_signs: None,
            epoch: Hex([7; 16]),
            revoked: Vec::new(),
            snapshot: Bodies::of(&[]),
            is_away: false,
            instead: None,
        }));
        let served = Arc::clone(&state);
        let server = ScriptedServer::tcp(move |_number, request| answer(&lock(&served), request))?;
        Ok(Self { server, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Adds it to a world, with a cluster of its own, for the audiences `orders` and `reports`; `more` is merged into its
    /// part of the filter's configuration.
    #[must_use]
    pub fn join(&self, builder: WorldBuilder, more: Value) -> WorldBuilder {
        let port = self.server.port();
        let endpoint = format!(
            "    - lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]"
        );
        builder
            .filter(move |filter| {
                let mut issuer = json!({
                    "issuer": ISSUER,
                    "name": NAME,
                    "audiences": {"orders": [], "reports": [], "legacy": []},
                    "jwks": {"cluster": "id", "path": KEYS},
                });
                merge(&mut issuer, &more);
                if let Some(issuers) = filter.pointer_mut("/issuers").and_then(Value::as_array_mut) {
                    issuers.push(issuer);
                }
            })
            .yaml(move |yaml| {
                yaml.insert_below(
                    "clusters:",
                    &[
                        "- name: id",
                        "  type: STATIC",
                        "  connect_timeout: 1s",
                        "  load_assignment:",
                        "    cluster_name: id",
                        "    endpoints:",
                        &endpoint,
                    ],
                )
            })
    }

    /// A token of alice's for these claims: `with` members set, or removed where they are null.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`] where the system has no randomness.
    pub fn token(&self, members: &Value) -> Result<String, HarnessError> {
        let mut claims = token::claims(ISSUER, "alice", "orders", "orders:read");
        for (name, value) in members.as_object().into_iter().flatten() {
            claims = with(claims, name, value.clone());
        }
        let key = Arc::clone(&self.state().signs);
        key.sign(&key.header(), &claims)
            .map_err(|ring::error::Unspecified| no_randomness())
    }

    /// Publishes a new key beside the others. Tokens are signed with the old one still.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`] where the system has no randomness.
    pub fn publish_key(&self) -> Result<(), HarnessError> {
        let key = new_key()?;
        self.state().published.push(key);
        Ok(())
    }

    /// Signs with the newest key from now on.
    pub fn sign_with_newest(&self) {
        let mut state = self.state();
        if let Some(newest) = state.published.last().map(Arc::clone) {
            state.signs = newest;
        }
    }

    /// Takes back all keys but the newest.
    pub fn retire_old_keys(&self) {
        let mut state = self.state();
        let old = state.published.len().saturating_sub(1);
        state.published.drain(..old);
    }

    /// Signs the feed with a key that nobody knows, or with its own again.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`] where the system has no randomness.
    pub fn forge_feed(&self, forge: bool) -> Result<(), HarnessError> {
        let stranger = new_key()?;
        self.state().feed_signs = forge.then_some(stranger);
        Ok(())
    }

    /// Answers 503 to everything, or as usual again.
    pub fn go_away(&self, is_away: bool) {
        self.state().is_away = is_away;
    }

    /// Answers this in place of a page of the feed, or pages again.
    pub fn answer_instead(&self, reply: Option<Reply>) {
        self.state().instead = reply;
    }

    /// The first page of a full snapshot of now, its claims changed, and signed as the issuer's are.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`] where the system has no randomness.
    pub fn changed_page(&self, change: impl FnOnce(&mut PageClaims)) -> Result<Vec<u8>, HarnessError> {
        let state = self.state();
        let (mut claims, body) = state.claims(FeedQuery::Snapshot).ok_or_else(no_randomness)?;
        change(&mut claims);
        sign_page(&state.signs, &claims, &body).ok_or_else(no_randomness)
    }

    /// Revokes: one version more.
    pub fn revoke(&self, entries: &[Entry]) {
        let mut revoked = self.state().revoked.clone();
        revoked.push(entries.to_vec());
        let snapshot = Bodies::of(&revoked.concat());
        let mut state = self.state();
        (state.revoked, state.snapshot) = (revoked, snapshot);
    }

    /// Begins a new store, with nothing revoked.
    pub fn forget_all(&self, epoch: u8) {
        let mut state = self.state();
        state.epoch = Hex([epoch; 16]);
        state.revoked.clear();
        state.snapshot = Bodies::of(&[]);
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The requests that came for this path, whatever their query.
    #[must_use]
    pub fn asked(&self, path: &str) -> Vec<Incoming> {
        let is_for = |request: &Incoming| target(request).split('?').next() == Some(path);
        self.server.requests().into_iter().filter(is_for).collect()
    }
}

/// An entry for one token, whenever issued.
#[must_use]
pub fn token_entry(token_id: &str) -> Entry {
    Entry::new(
        RevocationKey::token(ISSUER, token_id),
        token::now().saturating_add(3600),
        None,
    )
}

/// An entry for the tokens of a session that were issued up to a time.
#[must_use]
pub fn session_entry(session: &str, issued: u64) -> Entry {
    Entry::new(
        RevocationKey::session(ISSUER, session),
        token::now().saturating_add(3600),
        Some(issued),
    )
}

/// An entry for the tokens of a subject that were issued up to a time.
#[must_use]
pub fn subject_entry(subject: &str, issued: u64) -> Entry {
    Entry::new(
        RevocationKey::subject(ISSUER, subject),
        token::now().saturating_add(3600),
        Some(issued),
    )
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn new_key() -> Result<Arc<LabKey>, HarnessError> {
    LabKey::generate()
        .map(Arc::new)
        .map_err(|ring::error::Unspecified| no_randomness())
}

fn no_randomness() -> HarnessError {
    HarnessError::io("use a signing key", std::io::Error::other("no randomness"))
}

fn merge(into: &mut Value, more: &Value) {
    match (into.as_object_mut(), more) {
        (Some(members), Value::Object(more)) => {
            for (name, value) in more {
                merge(members.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        _ => *into = more.clone(),
    }
}

fn answer(state: &State, request: &Incoming) -> Reply {
    let target = target(request);
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    if state.is_away {
        return Reply::status(503, "");
    }
    match path {
        KEYS => {
            let sets = state.published.iter().map(|key| key.key_set());
            let keys: Vec<Value> = sets.filter_map(|set| set.pointer("/keys/0").cloned()).collect();
            Reply::ok(&json!({"keys": keys}).to_string())
        }
        FEED => match (&state.instead, state.page(FeedQuery::parse(query))) {
            (Some(reply), _) => reply.clone(),
            (None, Some(page)) => serve_page(&page),
            (None, None) => Reply::status(404, ""),
        },
        _ => Reply::status(404, ""),
    }
}

impl State {
    fn version(&self) -> u64 {
        u64::try_from(self.revoked.len()).unwrap_or(u64::MAX)
    }

    fn page(&self, query: FeedQuery) -> Option<Vec<u8>> {
        let (claims, body) = self.claims(query)?;
        sign_page(self.feed_signs.as_ref().unwrap_or(&self.signs), &claims, &body)
    }

    fn claims(&self, query: FeedQuery) -> Option<(PageClaims, Vec<u8>)> {
        let newest = self.version();
        let (base, version, page) = match query {
            FeedQuery::Since { epoch, version } if epoch == self.epoch && version <= newest => {
                (Some(version), newest, 0)
            }
            FeedQuery::Page {
                epoch,
                version,
                base,
                page,
                at: _,
            } if epoch == self.epoch && version <= newest => (base, version, page),
            FeedQuery::Snapshot | FeedQuery::Since { .. } | FeedQuery::Page { .. } => (None, newest, 0),
        };
        let place = |version: u64| usize::try_from(version).ok();
        let Bodies {
            bodies,
            hashes,
            entries,
        } = if (base, version) == (None, newest) {
            self.snapshot.clone()
        } else {
            Bodies::of(&self.revoked.get(place(base.unwrap_or(0))?..place(version)?)?.concat())
        };
        let body = bodies.get(place(u64::from(page))?)?;
        let claims = PageClaims {
            format: FORMAT,
            iss: ISSUER.to_owned(),
            iat: token::now(),
            epoch: self.epoch,
            version,
            base,
            page,
            pages: u32::try_from(bodies.len()).ok()?,
            entries,
            sha256: *hashes.get(place(u64::from(page))?)?,
            sha256_of_pages: Some(hash_of_pages(&hashes)),
        };
        Some((claims, body.clone()))
    }
}

/// The answer that brings a page.
#[must_use]
pub fn serve_page(page: &[u8]) -> Reply {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", page.len());
    Reply::Raw([head.as_bytes(), page].concat())
}

/// A page of a feed, signed by this key; nothing where the system has no randomness.
#[must_use]
pub fn sign_page(key: &LabKey, claims: &PageClaims, body: &[u8]) -> Option<Vec<u8>> {
    let header = with(key.header(), "typ", json!(TYPE));
    let jws = key.sign(&header, &serde_json::to_value(claims).ok()?).ok()?;
    Some(join_page(&jws, body))
}

/// What the only page of an issuer's feed says at a time, where nothing was revoked.
#[must_use]
pub fn empty_page(issuer: &str, issued: u64) -> PageClaims {
    let hash = body_hash(b"");
    PageClaims {
        format: FORMAT,
        iss: issuer.to_owned(),
        iat: issued,
        epoch: Hex([7; 16]),
        version: 1,
        base: None,
        page: 0,
        pages: 1,
        entries: 0,
        sha256: hash,
        sha256_of_pages: Some(hash_of_pages(&[hash])),
    }
}
