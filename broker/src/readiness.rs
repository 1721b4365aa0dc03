//! Decides, once a second, whether a ticket could be accepted now, so that a probe need not bring one.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use kerbridge_gss::Principal;
use prometheus_client::metrics::gauge::Gauge;
use rustix::fs::{Access, access};
use tokio::time::Instant;

use crate::config::{AcceptorConfig, Config, KerberosConfig, check_keytab_file};
use crate::problem::Problems;

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

/// A keytab that must hold a usable key of a principal, and the field that names it.
#[derive(Debug)]
struct Held {
    field: String,
    keytab: PathBuf,
    principal: Principal,
}

/// The keytabs that a configuration names.
fn keytabs(config: &Config) -> Vec<Held> {
    let acceptors = config.kerberos().acceptors.iter().enumerate();
    let acceptors = acceptors.map(|(index, AcceptorConfig { principal, keytab })| Held {
        field: format!("kerberos.acceptor[{index}].keytab"),
        keytab: keytab.clone(),
        principal: principal.as_principal().clone(),
    });
    let delegation = config.delegation().map(|delegation| Held {
        field: "delegation.keytab".into(),
        keytab: delegation.keytab.clone(),
        principal: delegation.principal.clone(),
    });
    acceptors.chain(delegation).collect()
}

/// Whether every keytab is still as the start asks for, and the replay cache can be written; `bad_keytabs` shows how many are
/// not. Those are used all the same: a key that others could read is not taken back by refusing tickets.
fn look(kerberos: &KerberosConfig, keytabs: &[Held], state_dir: &Path, bad_keytabs: &Gauge) -> Outcome {
    let looked = keytabs.iter().map(|held| look_at_keytab(kerberos, held));
    let bad: Vec<String> = looked.filter_map(Result::err).collect();
    bad_keytabs.set(i64::try_from(bad.len()).unwrap_or(i64::MAX));
    if !bad.is_empty() {
        return Err(bad.join("; "));
    }
    access(state_dir, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| format!("state_dir: {}", io::Error::from(error)))
}

fn look_at_keytab(kerberos: &KerberosConfig, held: &Held) -> Outcome {
    let Held {
        field,
        keytab,
        principal,
    } = held;
    let mut problems = Problems::default();
    let found = check_keytab_file(keytab, field, &mut problems).ok_or_else(|| problems.to_string())?;
    if found.entries().iter().any(|entry| kerberos.takes(entry, principal)) {
        Ok(())
    } else {
        Err(format!("{field}: it holds no usable key of {principal}"))
    }
}

/// A look at what a configuration needs, to be handed to [`Readiness::watch`].
pub fn looking_at(config: &Config, bad_keytabs: Gauge) -> impl Fn() -> Outcome + Send + 'static {
    let (kerberos, state_dir) = (config.kerberos().clone(), config.state_dir().to_owned());
    let keytabs = keytabs(config);
    move || look(&kerberos, &keytabs, &state_dir, &bad_keytabs)
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
        let bad = Gauge::default();
        assert_eq!(look(&nothing, &[], folder.path(), &bad), Ok(()));
        let problem = look(&nothing, &[], &folder.path().join("gone"), &bad).unwrap_err();
        assert!(problem.starts_with("state_dir: No such file"), "{problem}");
    }
}
