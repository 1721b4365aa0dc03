//! Keeps what a certificate file last said, and for a while what it said before: a connection outlives the file.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kerbridge_gss::ChannelBindings;
use rustix::fs::OFlags;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::end_point;
use crate::time::UnixTime;

/// Largest file that is read, in bytes.
const LARGEST: u64 = 1024 * 1024;
/// How many contents are remembered beside the present one.
const MOST_EARLIER: usize = 3;
/// A file that was changed so few seconds ago may change again without a newer time: the kernel's clock ticks in
/// milliseconds, and some file systems keep seconds.
const UNSETTLED: u64 = 2;

/// One PEM file, the leaf certificate first.
#[derive(Debug)]
pub struct CertificateFile {
    path: PathBuf,
    /// How long an earlier content still counts, in seconds.
    overlap: u64,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// Of the content; absent where it has to be read again.
    stamp: Option<Stamp>,
    current: ChannelBindings,
    earlier: Vec<Earlier>,
    complaint: Option<String>,
    /// How many have begun to read the file, and the last of them whose content was taken.
    begun: u64,
    taken: u64,
}

#[derive(Debug)]
struct Earlier {
    bindings: ChannelBindings,
    until: UnixTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

impl CertificateFile {
    /// Reads the file, or says what is wrong with it.
    pub fn open(path: PathBuf, overlap: u64) -> Result<Self, String> {
        let current = read(&path)?;
        Ok(Self {
            path,
            overlap,
            seen: Mutex::new(Seen {
                stamp: None,
                current,
                earlier: Vec::new(),
                complaint: None,
                begun: 0,
                taken: 0,
            }),
        })
    }

    /// Looks whether the file has changed, and reads it only then; a content that is no certificate changes nothing. `false`
    /// where the last one was bad.
    pub fn look(&self, now: UnixTime) -> bool {
        self.refreshed(now, |seen| seen.complaint.is_none())
    }

    /// The bindings to its certificate, after a [look](Self::look), and to those before it that still count.
    pub fn bindings(&self, now: UnixTime, into: &mut Vec<ChannelBindings>) {
        self.refreshed(now, |seen| {
            into.push(seen.current.clone());
            into.extend(seen.earlier.iter().map(|earlier| earlier.bindings.clone()));
        });
    }

    fn refreshed<T>(&self, now: UnixTime, then: impl FnOnce(&Seen) -> T) -> T {
        // The file system is asked without the lock: whoever waits for it holds up nobody else.
        let stamp = Stamp::of(&self.path).ok();
        if let Some(turn) = self.begin(stamp, now) {
            // The stamp was taken first: a change in between is seen the next time.
            self.end(turn, stamp, read(&self.path), now);
        }
        then(&self.seen())
    }

    /// A turn to read the file, where it has changed.
    fn begin(&self, stamp: Option<Stamp>, now: UnixTime) -> Option<u64> {
        let mut seen = self.seen();
        seen.earlier.retain(|earlier| now < earlier.until);
        if stamp.is_some() && seen.stamp == stamp {
            return None;
        }
        seen.begun = seen.begun.saturating_add(1);
        Some(seen.begun)
    }

    /// Takes what was read, unless somebody who began later is done: what they read is at least as new.
    fn end(&self, turn: u64, stamp: Option<Stamp>, content: Result<ChannelBindings, String>, now: UnixTime) {
        let mut seen = self.seen();
        if seen.taken < turn {
            seen.taken = turn;
            seen.stamp = stamp.filter(|stamp| stamp.is_settled(now));
            seen.take(content, &self.path, now.plus(self.overlap));
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn take(&mut self, content: Result<ChannelBindings, String>, path: &Path, until: UnixTime) {
        let file = path.display();
        let complaint = match content {
            Ok(bindings) => {
                if bindings != self.current {
                    tracing::info!(%file, "the certificate was replaced");
                    self.replace(bindings, until);
                }
                None
            }
            Err(problem) => Some(problem),
        };
        if complaint != self.complaint {
            match &complaint {
                Some(problem) => tracing::warn!(problem, "the certificate is kept as it was"),
                None => tracing::info!(%file, "the certificate is good again"),
            }
            self.complaint = complaint;
        }
    }

    fn replace(&mut self, bindings: ChannelBindings, until: UnixTime) {
        let before = std::mem::replace(&mut self.current, bindings);
        self.earlier
            .retain(|earlier| earlier.bindings != self.current && earlier.bindings != before);
        self.earlier.insert(
            0,
            Earlier {
                bindings: before,
                until,
            },
        );
        self.earlier.truncate(MOST_EARLIER);
    }
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    fn is_settled(&self, now: UnixTime) -> bool {
        u64::try_from(self.changed.0).is_ok_and(|changed| UnixTime::from_seconds(changed).until(now) >= UNSETTLED)
    }
}

fn read(path: &Path) -> Result<ChannelBindings, String> {
    let name = path.display();
    let unreadable = |error: io::Error| format!("{name}: {error}");
    // Without waiting: a pipe would keep an exchange until somebody writes.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(format!("{name} is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if u64::try_from(bytes.len()).map_or(true, |length| length > LARGEST) {
        return Err(format!("{name} is larger than 1 MiB"));
    }
    let certificate =
        CertificateDer::from_pem_slice(&bytes).map_err(|_| format!("{name} holds no certificate in PEM"))?;
    end_point::bindings_of(&certificate).map_err(|error| format!("{name} {error}"))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    const OVERLAP: u64 = 60;

    fn pem() -> String {
        let certificate = CertificateParams::new(["api.test".to_owned()]).unwrap();
        certificate.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn bindings(file: &CertificateFile, now: u64) -> Vec<ChannelBindings> {
        let mut found = Vec::new();
        file.bindings(UnixTime::from_seconds(now), &mut found);
        found
    }

    /// The system's clock stamps the file, so that the moments of a test lie beside its.
    fn changed(path: &Path) -> u64 {
        u64::try_from(Stamp::of(path).unwrap().changed.0).unwrap()
    }

    #[test]
    fn a_replaced_certificate_counts_beside_the_new_one_until_the_overlap_has_passed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tls.crt");
        fs::write(&path, pem()).unwrap();
        let file = CertificateFile::open(path.clone(), OVERLAP).unwrap();
        let began = changed(&path);
        let first = bindings(&file, began);
        assert_eq!(first.len(), 1);

        // In place and at once: neither inode nor, perhaps, time or size differ.
        fs::write(&path, pem()).unwrap();
        let both = bindings(&file, began);
        assert_eq!((both.len(), both.get(1)), (2, first.first()));
        assert_ne!(both.first(), first.first());
        // By a rename.
        let next = folder.path().join("next");
        fs::write(&next, pem()).unwrap();
        fs::rename(&next, &path).unwrap();
        let three = bindings(&file, began + 30);
        assert_eq!(three.get(1..), Some(both.as_slice()));
        assert_eq!(bindings(&file, began + OVERLAP).len(), 2);
        assert_eq!(bindings(&file, began + 30 + OVERLAP), three.get(..1).unwrap());
    }

    #[test]
    fn a_bad_file_leaves_the_last_good_one_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tls.crt");
        let good = pem();
        fs::write(&path, &good).unwrap();
        let file = CertificateFile::open(path.clone(), OVERLAP).unwrap();
        let now = changed(&path);
        let before = bindings(&file, now);
        assert!(file.look(UnixTime::from_seconds(now)));
        for bad in [
            good.get(..good.len() / 2).unwrap(),
            "",
            "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        ] {
            fs::write(&path, bad).unwrap();
            assert!(!file.look(UnixTime::from_seconds(now)), "{bad}");
            assert_eq!(bindings(&file, now), before, "{bad}");
        }
        fs::remove_file(&path).unwrap();
        assert!(!file.look(UnixTime::from_seconds(now)));
        assert_eq!(bindings(&file, now), before);
        // Nobody writes into it.
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(!file.look(UnixTime::from_seconds(now)));
        assert_eq!(bindings(&file, now), before);
        fs::remove_file(&path).unwrap();
        fs::write(&path, &good).unwrap();
        assert!(file.look(UnixTime::from_seconds(now)));
        assert_eq!(bindings(&file, now), before);
    }

    #[test]
    fn a_certificate_that_comes_back_and_goes_counts_once_and_no_more_than_four_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tls.crt");
        let contents: Vec<String> = (0..6).map(|_| pem()).collect();
        fs::write(&path, &contents[0]).unwrap();
        let file = CertificateFile::open(path.clone(), OVERLAP).unwrap();
        let now = changed(&path);
        for (content, expected) in [(1, 2), (0, 2), (1, 2), (2, 3), (3, 4), (4, 4), (5, 4)] {
            fs::write(&path, &contents[content]).unwrap();
            assert_eq!(bindings(&file, now).len(), expected, "{content}");
        }
    }

    #[test]
    fn what_was_read_by_somebody_who_began_earlier_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tls.crt");
        fs::write(&path, pem()).unwrap();
        let file = CertificateFile::open(path.clone(), OVERLAP).unwrap();
        let now = changed(&path);
        // Somebody has read the file, and is slow to say so.
        let slow = file.begin(None, UnixTime::from_seconds(now)).unwrap();
        let old = read(&path);
        fs::write(&path, pem()).unwrap();
        let new = bindings(&file, now);
        assert_eq!(new.get(1), old.as_ref().ok());
        file.end(slow, None, old, UnixTime::from_seconds(now));
        assert_eq!(bindings(&file, now), new);
    }

    #[test]
    fn a_settled_file_is_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tls.crt");
        fs::write(&path, pem()).unwrap();
        let file = CertificateFile::open(path.clone(), OVERLAP).unwrap();
        let later = UnixTime::from_seconds(changed(&path) + UNSETTLED);
        let stamp = |file: &CertificateFile| file.seen.lock().unwrap().stamp;
        file.look(UnixTime::from_seconds(changed(&path)));
        assert_eq!(stamp(&file), None);
        file.look(later);
        assert_eq!(stamp(&file), Some(Stamp::of(&path).unwrap()));
    }
}
