//! Decides, once a second, whether a ticket could be accepted now, so that a probe need not bring one.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use kerbridge_gss::Keytab;
use rustix::fs::{Access, access};
use tokio::time::Instant;

use crate::config::{AcceptorConfig, KerberosConfig};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// A look that takes longer hangs, and with it the acceptors, which read the same files.
const STALE: Duration = Duration::from_secs(5);

/// What a look found; the text says what is wrong.
pub type Outcome = Result<(), String>;

/// Looks in the background, on a thread of its own: a file system that hangs must not hang the probe.
#[derive(Debug)]
pub struct Readiness {
    seen: Arc<Mutex<(Instant, Outcome)>>,
    /// The thread ends when this is dropped; nothing is ever sent.
    _stop: Sender<Infallible>,
}

impl Readiness {
    /// Looks once before it returns, and from then on every second.
    pub fn watch(look: impl Fn() -> Outcome + Send + 'static) -> io::Result<Self> {
        let mut before = look();
        let seen = Arc::new(Mutex::new((Instant::now(), before.clone())));
        let (stop, stopped) = channel();
        let shared = Arc::clone(&seen);
        // Nobody waits for its end: it uses nothing that the end of the process takes away.
        thread::Builder::new().name("readiness".into()).spawn(move || {
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                let outcome = look();
                if outcome != before {
                    match &outcome {
                        Ok(()) => tracing::info!("ready again"),
                        Err(problem) => tracing::warn!(problem, "not ready"),
                    }
                    before.clone_from(&outcome);
                }
                *shared.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), outcome);
            }
        })?;
        Ok(Self { seen, _stop: stop })
    }

    /// What the last look found.
    pub fn now(&self) -> Outcome {
        let (at, outcome) = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if at.elapsed() > STALE {
            return Err("looking at keytab and state directory takes too long".into());
        }
        outcome
    }
}

/// Whether every keytab still holds a usable key of its principal, and the replay cache can be written.
pub fn look(kerberos: &KerberosConfig, state_dir: &Path) -> Outcome {
    for (index, AcceptorConfig { principal, keytab }) in kerberos.acceptors.iter().enumerate() {
        let held = Keytab::open(keytab).map_err(|error| format!("kerberos.acceptor[{index}].keytab: {error}"))?;
        if !held.entries().iter().any(|entry| kerberos.takes(entry, principal)) {
            return Err(format!(
                "kerberos.acceptor[{index}].keytab: it holds no usable key of {principal}"
            ));
        }
    }
    access(state_dir, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| format!("state_dir: {}", io::Error::from(error)))
}

/// [`look`], to be handed to [`Readiness::watch`].
pub fn looking_at(kerberos: KerberosConfig, state_dir: PathBuf) -> impl Fn() -> Outcome + Send + 'static {
    move || look(&kerberos, &state_dir)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn what_changes_is_seen_within_a_second_or_two() {
        let good = Arc::new(AtomicBool::new(false));
        let looked = Arc::clone(&good);
        let readiness = Readiness::watch(move || {
            if looked.load(Ordering::SeqCst) {
                Ok(())
            } else {
                Err("gone".into())
            }
        })
        .unwrap();
        assert_eq!(readiness.now(), Err("gone".into()));
        good.store(true, Ordering::SeqCst);
        let began = Instant::now();
        while readiness.now().is_err() {
            assert!(began.elapsed() < Duration::from_secs(10));
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_missing_state_directory_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let nothing = KerberosConfig {
            realms: Vec::new(),
            clock_skew_seconds: 300,
            weak_enctypes: Vec::new(),
            acceptors: Vec::new(),
        };
        assert_eq!(look(&nothing, folder.path()), Ok(()));
        let problem = look(&nothing, &folder.path().join("gone")).unwrap_err();
        assert!(problem.starts_with("state_dir: No such file"), "{problem}");
    }
}
