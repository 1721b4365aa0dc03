//! Decides whether this broker is the only one that uses its state directory.
//!
//! Two would write krb5.conf under each other, and each would take the other's left-overs for its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::problem::Problem;

/// Name of the file in the state directory. It stays when the broker ends: what counts is the lock on it.
pub const FILE: &str = "lock";

/// A state directory that is ours until this is dropped, or the process ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes a state directory, which must exist.
    pub fn take(state_dir: &Path) -> Result<Self, Problem> {
        let path = state_dir.join(FILE);
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let file = lock(opened, &path)?;
        // The number is for whoever comes second.
        file.set_len(0)
            .and_then(|()| writeln!(&file, "{}", std::process::id()))
            .map_err(|error| unusable(&path, &error))?;
        Ok(Self { _file: file })
    }

    /// Looks whether another broker has a state directory; one that nobody has used yet is free.
    pub fn look(state_dir: &Path) -> Result<(), Problem> {
        let path = state_dir.join(FILE);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            opened => lock(opened, &path).map(drop),
        }
    }
}

fn lock(opened: io::Result<File>, path: &Path) -> Result<File, Problem> {
    let file = opened.map_err(|error| unusable(path, &error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(taken(path, &file)),
        Err(error) => Err(unusable(path, &error.into())),
    }
}

fn taken(path: &Path, file: &File) -> Problem {
    let mut text = String::new();
    // Between the other's lock and its number there is none yet.
    let who = match file
        .take(32)
        .read_to_string(&mut text)
        .map(|_| text.trim().parse::<u32>())
    {
        Ok(Ok(pid)) => format!("another broker, process {pid},"),
        Ok(Err(_)) | Err(_) => "another broker".into(),
    };
    let folder = path.parent().unwrap_or(path).display();
    Problem {
        field: "state_dir".into(),
        problem: format!("{who} uses {folder}"),
        remedy: "stop it, or give each broker a state_dir of its own".into(),
    }
}

fn unusable(path: &Path, error: &io::Error) -> Problem {
    Problem {
        field: "state_dir".into(),
        problem: format!("{}: {error}", path.display()),
        remedy: "let the broker's user own the state directory, mode 0700".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_is_one_brokers_and_the_other_is_named() {
        let folder = tempfile::tempdir().unwrap();
        StateLock::look(folder.path()).unwrap();
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "looking made something"
        );
        let first = StateLock::take(folder.path()).unwrap();
        let expected = format!(
            "state_dir: another broker, process {}, uses {}; stop it, or give each broker a state_dir of its own",
            std::process::id(),
            folder.path().display()
        );
        for second in [StateLock::take(folder.path()).map(drop), StateLock::look(folder.path())] {
            assert_eq!(second.unwrap_err().to_string(), expected);
        }
        drop(first);
        StateLock::look(folder.path()).unwrap();
        StateLock::take(folder.path()).unwrap();
    }
}
