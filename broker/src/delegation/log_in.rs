//! Decides when our own log-in may be tried again after the KDC refused it: a wrong key that is tried without end locks the
//! account.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::kdc::NoTicket;

/// The first pause; each that follows is twice as long.
const FIRST: Duration = Duration::from_secs(5);
/// The longest. Whoever mends something at the KDC waits for it, whoever replaces the keytab does not.
const LONGEST: Duration = Duration::from_secs(300);

/// What all threads know of our log-in.
#[derive(Debug)]
pub struct LogIn {
    keytab: PathBuf,
    refused: Mutex<Option<Refused>>,
    /// The last log-in was let in.
    proven: AtomicBool,
    turn: Mutex<()>,
}

#[derive(Debug)]
struct Refused {
    why: NoTicket,
    pause: Duration,
    until: Instant,
    keytab: Option<Stamp>,
}

/// A file's inode, size and time of change.
type Stamp = (u64, u64, i64, i64);

impl LogIn {
    /// With the keys of this file.
    pub fn new(keytab: PathBuf) -> Self {
        Self {
            keytab,
            refused: Mutex::default(),
            proven: AtomicBool::new(false),
            turn: Mutex::default(),
        }
    }

    /// To be held while a log-in is tried of which nobody knows whether it will be let in: threads that try a wrong key all at
    /// once lock the account as surely as one that does not stop. `None` where the last one was let in.
    pub(super) fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        let is_proven = || self.proven.load(Ordering::Acquire);
        if is_proven() {
            return None;
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever was before may have found it good.
        (!is_proven()).then_some(turn)
    }

    /// Whether it may be tried now, or why it was refused the last time.
    pub(super) fn may_be_tried(&self) -> Result<(), NoTicket> {
        let mut refused = self.refused();
        match &*refused {
            Some(last) if last.keytab != self.stamp() => {
                // Another key, another chance.
                *refused = None;
                Ok(())
            }
            Some(last) if Instant::now() < last.until => Err(last.why.clone()),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn failed(&self, why: &NoTicket) {
        self.proven.store(false, Ordering::Release);
        let mut refused = self.refused();
        let pause = refused
            .as_ref()
            .map_or(FIRST, |last| last.pause.saturating_mul(2).min(LONGEST));
        let now = Instant::now();
        tracing::error!(
            reason = why.reason.as_str(),
            detail = why.detail,
            "the KDC does not let us in"
        );
        *refused = Some(Refused {
            why: why.clone(),
            pause,
            until: now.checked_add(pause).unwrap_or(now),
            keytab: self.stamp(),
        });
    }

    pub(super) fn succeeded(&self) {
        *self.refused() = None;
        self.proven.store(true, Ordering::Release);
    }

    fn stamp(&self) -> Option<Stamp> {
        let metadata = fs::metadata(&self.keytab).ok()?;
        Some((metadata.ino(), metadata.size(), metadata.ctime(), metadata.ctime_nsec()))
    }

    fn refused(&self) -> MutexGuard<'_, Option<Refused>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;

    use kerbridge_wire::Reason;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_log_in_that_fails_is_tried_again_ever_less_often_and_at_once_with_another_keytab() {
        let folder = tempfile::tempdir().unwrap();
        let keytab = folder.path().join("keytab");
        fs::write(&keytab, "one").unwrap();
        let log_in = LogIn::new(keytab.clone());
        let why = NoTicket::new(Reason::Internal, "scripted");
        assert_eq!(log_in.may_be_tried(), Ok(()));
        for pause in [5, 10, 20, 40, 80, 160, 300, 300] {
            log_in.failed(&why);
            tokio::time::advance(Duration::from_secs(pause - 1)).await;
            assert_eq!(log_in.may_be_tried(), Err(why.clone()), "{pause}");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(log_in.may_be_tried(), Ok(()), "{pause}");
        }
        log_in.failed(&why);
        fs::write(&keytab, "another").unwrap();
        assert_eq!(log_in.may_be_tried(), Ok(()));
        log_in.failed(&why);
        tokio::time::advance(FIRST).await;
        assert_eq!(log_in.may_be_tried(), Ok(()));
        log_in.failed(&why);
        log_in.succeeded();
        assert_eq!(log_in.may_be_tried(), Ok(()));
    }

    #[test]
    fn one_thread_at_a_time_tries_a_key_that_is_not_proven_and_the_others_hear_of_its_refusal() {
        const THREADS: usize = 8;
        let log_in = LogIn::new(PathBuf::from("/nonexistent"));
        let (tried, together) = (AtomicUsize::new(0), Barrier::new(THREADS));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    together.wait();
                    let _turn = log_in.turn();
                    if log_in.may_be_tried().is_ok() {
                        tried.fetch_add(1, Ordering::SeqCst);
                        log_in.failed(&NoTicket::new(Reason::Internal, "scripted"));
                    }
                });
            }
        });
        assert_eq!(tried.into_inner(), 1);
        assert!(log_in.turn().is_some());
        log_in.succeeded();
        assert!(log_in.turn().is_none());
    }
}
