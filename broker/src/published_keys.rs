//! Follows the public keys that issuers publish: looks again and again, and keeps the last good set until it is too old.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kerbridge_gate::jwk::SET_LIMIT;

use crate::config::{ClientConfig, KeySource, kid_that_stands_twice};
use crate::outgoing::{Missed, fetch};
use crate::reload::Look;
use crate::subject_token::Issuers;
use crate::time::Clock;

/// A look at a file of keys; nothing where they are elsewhere. It is looked at once a second, and its keys count as looked at
/// then.
pub fn look_at_file(source: &KeySource, issuers: &Arc<Issuers>, clock: Clock) -> Option<Look> {
    let path = source.place.file()?;
    Some(look_at(path, &source.terms.issuer, issuers, clock, |_| Ok(())))
}

/// The same of a client's keys, of which each has a name of its own.
pub fn look_at_client(client: &ClientConfig, clients: &Arc<Issuers>, clock: Clock) -> Look {
    look_at(&client.keys, &client.name, clients, clock, |text| {
        kid_that_stands_twice(text).map_or(Ok(()), |kid| Err(Missed::KidTwice(kid)))
    })
}

fn look_at(
    path: &Path,
    issuer: &str,
    issuers: &Arc<Issuers>,
    clock: Clock,
    check: impl Fn(&[u8]) -> Result<(), Missed> + Send + Sync + 'static,
) -> Look {
    let (path, issuer, issuers) = (path.to_owned(), issuer.to_owned(), Arc::clone(issuers));
    let complaint = Mutex::new(None);
    Box::new(move || {
        let now = clock.now();
        let text = read(&path).and_then(|text| check(&text).map(|()| text));
        let outcome = text.and_then(|text| publish(&issuers, &issuer, &text, now));
        tell(
            &issuer,
            outcome,
            &mut complaint.lock().unwrap_or_else(PoisonError::into_inner),
        );
    })
}

/// Fetches the keys of an issuer as often as it says. It ends with the runtime.
pub async fn follow(source: KeySource, issuers: Arc<Issuers>, clock: Clock) {
    let every = Duration::from_secs(source.terms.poll.seconds().into());
    let issuer = &source.terms.issuer;
    let mut complaint = None;
    loop {
        // What is old when it arrives is as old as the question.
        let asked = clock.now();
        let fetched = fetch(&source.place, str::to_owned, SET_LIMIT).await;
        let outcome = fetched.and_then(|text| publish(&issuers, issuer, &text, asked));
        tell(issuer, outcome, &mut complaint);
        tokio::time::sleep(every).await;
    }
}

fn publish(issuers: &Issuers, issuer: &str, text: &[u8], as_of: crate::time::UnixTime) -> Result<(), Missed> {
    issuers.publish(issuer, text, as_of).map_err(|_| Missed::NotAKeySet)
}

/// Says once what has changed since the complaint before.
fn tell(issuer: &str, outcome: Result<(), Missed>, before: &mut Option<String>) {
    let complaint = outcome.err().map(|missed| missed.to_string());
    if complaint != *before {
        match &complaint {
            Some(problem) => tracing::warn!(issuer, problem, "the issuer's keys are kept as they were"),
            None => tracing::info!(issuer, "the issuer's keys are good again"),
        }
    }
    *before = complaint;
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Missed> {
    let most = u64::try_from(SET_LIMIT).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > SET_LIMIT {
        return Err(Missed::TooLarge(SET_LIMIT));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        std::fs::write(&path, vec![b' '; SET_LIMIT]).unwrap();
        assert_eq!(read(&path).unwrap().len(), SET_LIMIT);
        std::fs::write(&path, vec![b' '; SET_LIMIT + 1]).unwrap();
        assert!(matches!(read(&path), Err(Missed::TooLarge(SET_LIMIT))));
        assert!(matches!(read(&folder.path().join("none")), Err(Missed::Io(_))));
    }
}
