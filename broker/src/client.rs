//! Gets tokens for people and scripts: with their tickets, from the broker's public listener, once for each service until a fourth
//! of the token's life is left.
//!
//! In flow order: [`settings`] say what is wanted, [`ticket`] whose tickets are here, [`kept`] whether there is a token already,
//! [`discovery`] where one comes from, [`exchange`] gets it over [`https`].

pub(crate) mod address;
pub(crate) mod discovery;
pub(crate) mod exchange;
mod https;
pub(crate) mod kept;
mod krb5_conf;
pub(crate) mod settings;
pub(crate) mod ticket;
pub(crate) mod trouble;
mod trust;

use std::path::Path;

use self::address::Address;
use self::discovery::Issuer;
use self::exchange::{For, Wish};
use self::https::Https;
use self::kept::{Folder, Kept, Key, Target};
use self::settings::{Said, Settings, Wanted};
use self::ticket::Tickets;
use self::trouble::{Kind, Trouble};
use crate::time::{Clock, UnixTime};

/// What the last log-in was for.
const CURRENT: &str = "current";

/// Whether a token that is there will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// One that is good for a while yet.
    Good,
    /// One that is made now.
    New,
}

/// A token for what the settings want: one that is kept, or a new one, which is then kept. Where the broker cannot be asked, one that
/// is still good is handed out to its end.
///
/// Without a ticket there is none, though one may be kept: whose it should be is not known then.
pub(crate) fn token(settings: &Settings, cache: &Path, need: Need, clock: Clock) -> Result<Kept, Trouble> {
    // Before a kept token is handed out as well: who names a file that is no good hears of it at once.
    let https = settings.ca.as_deref().map(|ca| Https::new(Some(ca))).transpose()?;
    let tickets = Tickets::find(&settings.source)?;
    let folder = Folder::open(cache)?;
    let keys = keys(settings, tickets.principal().as_str());
    let kept = |folder: &Folder| -> Result<Option<Kept>, Trouble> {
        if need == Need::New {
            return Ok(None);
        }
        for key in &keys {
            if let Some(kept) = folder.find(key)? {
                return Ok(Some(kept));
            }
        }
        Ok(None)
    };
    if let Some(kept) = kept(&folder)?.filter(|kept| kept.is_fresh(clock.now())) {
        return Ok(kept);
    }
    // Those who come at once wait for the first, and take what it has brought. For all addresses of a host it is one turn, since
    // only its metadata tells which of them are one service.
    let turn = keys.last().map(|key| folder.turn(key)).transpose()?;
    let before = kept(&folder)?;
    let (fresh, before) = match before {
        Some(kept) if kept.is_fresh(clock.now()) => (Ok(kept), None),
        before => (renew(settings, &tickets, https, clock), before),
    };
    let outcome = match (fresh, before) {
        (Err(trouble), Some(before)) if trouble.is_passing() && before.left(clock.now()) > 0 => Ok(before),
        (Err(trouble), _) => Err(trouble),
        (Ok(new), _) => folder.keep(&new).map(|()| new),
    };
    drop(turn);
    outcome
}

/// Under which names a token may be kept: an address lies within that of its service.
fn keys(settings: &Settings, principal: &str) -> Vec<Key> {
    let key = |target| Key::of(principal, &target, &settings.scopes);
    match &settings.wanted {
        Wanted::At(address) => {
            let above = address.and_above().into_iter();
            above.map(|above| key(Target::Resource(above.to_string()))).collect()
        }
        Wanted::Named { issuer, audience } => vec![key(named(issuer, audience))],
    }
}

fn named(issuer: &Issuer, audience: &str) -> Target {
    Target::Audience {
        issuer: issuer.as_str().to_owned(),
        audience: audience.to_owned(),
    }
}

/// A new token, asked for by the authorities that are named, otherwise by this machine's.
fn renew(settings: &Settings, tickets: &Tickets, https: Option<Https>, clock: Clock) -> Result<Kept, Trouble> {
    let https = https.map_or_else(|| Https::new(None), Ok)?;
    let found;
    let (issuer, wished, target) = match &settings.wanted {
        Wanted::At(address) => {
            found = discovery::resource(&https, address)?;
            let target = Target::Resource(found.address.trimmed().to_string());
            (&found.issuer, For::Resource(&found.name), target)
        }
        Wanted::Named { issuer, audience } => (issuer, For::Audience(audience), named(issuer, audience)),
    };
    let endpoints = discovery::endpoints(&https, issuer)?;
    let wish = Wish {
        service: &settings.service,
        target: wished,
        scopes: &settings.scopes,
        bound: settings.channel_binding,
    };
    // Its life is counted from before the question, so that it never seems longer than it is.
    let asked = clock.now();
    let given = exchange::ask(&https, &endpoints.token, tickets, &wish)?;
    Ok(Kept {
        principal: tickets.principal().to_string(),
        target,
        issuer: issuer.as_str().to_owned(),
        wanted: settings.scopes.clone(),
        scope: given.scope,
        access_token: given.token,
        issued_at: asked.seconds(),
        expires_at: asked.plus(given.seconds).seconds(),
        revocation_endpoint: endpoints.revocation.map(|endpoint| endpoint.to_string()),
        ca: settings.ca.clone(),
    })
}

/// Remembers for what the last log-in was, so that later commands need not be told.
pub(crate) fn remember(cache: &Path, said: &Said) -> Result<(), Trouble> {
    let text = toml::to_string(said).map_err(|error| {
        Trouble::new(
            Kind::CacheUnusable,
            format!("the log-in cannot be remembered: {error}"),
            "name the address each time",
        )
    })?;
    Folder::open(cache)?.write(CURRENT, text.as_bytes())
}

/// What the last log-in was for; nothing where there was none, or where it cannot be read.
pub(crate) fn remembered(cache: &Path) -> Said {
    if !cache.exists() {
        return Said::default();
    }
    let read = || Folder::open(cache).ok()?.read(CURRENT).ok()?;
    let text = read().and_then(|bytes| String::from_utf8(bytes).ok());
    text.and_then(|text| toml::from_str(&text).ok()).unwrap_or_default()
}

/// What became of the kept tokens.
#[derive(Debug, Default)]
pub(crate) struct LoggedOut {
    /// So many were taken back, or had ended.
    pub(crate) revoked: usize,
    /// Tokens that are forgotten here and stand until their end, with why.
    pub(crate) standing: Vec<(UnixTime, Trouble)>,
}

/// Has tokens taken back and forgets them: those for an address or an audience, otherwise all that are kept. No ticket is needed.
pub(crate) fn log_out(cache: &Path, wanted: Option<&Wanted>, clock: Clock) -> Result<LoggedOut, Trouble> {
    let mut done = LoggedOut::default();
    // A folder that cannot be looked for may have tokens.
    if matches!(cache.try_exists(), Ok(false)) {
        return Ok(done);
    }
    let folder = Folder::open(cache)?;
    for kept in folder.all(clock.now())? {
        if !wanted.is_none_or(|wanted| is_for(&kept.target, wanted)) {
            continue;
        }
        // Forgotten first: whatever the broker says, it is not to be used again here.
        folder.forget(&kept)?;
        match take_back(&kept) {
            Ok(()) => done.revoked = done.revoked.saturating_add(1),
            Err(trouble) => done.standing.push((UnixTime::from_seconds(kept.expires_at), trouble)),
        }
    }
    if wanted.is_none() {
        folder.unlink(CURRENT)?;
    }
    Ok(done)
}

fn is_for(target: &Target, wanted: &Wanted) -> bool {
    match (target, wanted) {
        (Target::Resource(resource), Wanted::At(address)) => {
            Address::parse(resource).is_ok_and(|resource| address.is_within(&resource))
        }
        (
            Target::Audience { issuer, audience },
            Wanted::Named {
                issuer: at,
                audience: name,
            },
        ) => issuer == at.as_str() && audience == name,
        (Target::Resource(_), Wanted::Named { .. }) | (Target::Audience { .. }, Wanted::At(_)) => false,
    }
}

fn take_back(kept: &Kept) -> Result<(), Trouble> {
    let endpoint = kept
        .revocation_endpoint
        .as_deref()
        .and_then(|text| Address::parse(text).ok());
    let endpoint = endpoint.ok_or_else(|| {
        Trouble::new(
            Kind::NotRevoked,
            format!("{} takes no tokens back", kept.issuer),
            "it ends by itself",
        )
    })?;
    exchange::revoke(&Https::new(kept.ca.as_deref())?, &endpoint, &kept.access_token)
}
