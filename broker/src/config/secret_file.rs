//! Decides whether a file with a secret is kept from others, and opens it if so.
//!
//! What is checked is the open file, not its path: between a look at a path and an open there may be another file.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::problem::Problems;

const LARGEST: u64 = 1024 * 1024;

/// What is wrong, and the remedy.
pub(super) type Complaint = (String, &'static str);

/// Who but its owner may reach a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Nobody.
    Owner,
    /// Its group may read it: so root can own it, and the broker's user has it by its group.
    GroupReads,
    /// Whoever the one allows that made it, which is systemd.
    Unchecked,
}

impl Reach {
    const fn forbidden(self) -> u32 {
        match self {
            Self::Owner => 0o077,
            Self::GroupReads => 0o037,
            Self::Unchecked => 0,
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::Owner | Self::Unchecked => "chmod it 0600",
            Self::GroupReads => "chmod it 0600, or 0640 with the broker's group",
        }
    }
}

/// Reads a short text that nobody but its owner may read.
pub(super) fn read(path: &Path, reach: Reach) -> Result<Zeroizing<String>, Complaint> {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    open(path, reach)?
        .take(4096)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(path, &error))?;
    Ok(text)
}

/// Reads the password in a file, without the end of its line, or notes what is wrong with it. An empty one is none: a directory
/// would take who shows it for nobody, and answer nothing (RFC 4513 §5.1.2).
pub(super) fn password(
    path: &Path,
    reach: Reach,
    field: &'static str,
    problems: &mut Problems,
) -> Option<Arc<Zeroizing<String>>> {
    let text = match read(path, reach) {
        Ok(text) => text,
        Err((problem, remedy)) => {
            problems.note(field, problem, remedy);
            return None;
        }
    };
    let password = text.strip_suffix('\n').unwrap_or(&text);
    if password.is_empty() {
        problems.note(
            field,
            format!("{} is empty", path.display()),
            "write the password into it",
        );
        return None;
    }
    Some(Arc::new(Zeroizing::new(password.to_owned())))
}

/// Reads a file whole into bytes that are wiped when they go.
pub(super) fn read_bytes(path: &Path, reach: Reach) -> Result<Zeroizing<Vec<u8>>, Complaint> {
    let file = open(path, reach)?;
    let size = file.metadata().map_err(|error| unreadable(path, &error))?.len();
    // Room for all of it: a vector that grows leaves copies behind.
    let size = usize::try_from(size.min(LARGEST)).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    file.take(LARGEST)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, &error))?;
    Ok(bytes)
}

/// Opens it, if it is a regular file that nobody else may reach and that belongs to us or to root.
fn open(path: &Path, reach: Reach) -> Result<File, Complaint> {
    let name = path.display();
    // Without waiting: a pipe would keep us until somebody writes.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(|error| unreadable(path, &error))?;
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    let mode = metadata.mode() & 0o7777;
    if !metadata.is_file() {
        return Err((format!("{name} is no regular file"), "name a file"));
    }
    if metadata.len() > LARGEST {
        return Err((format!("{name} is larger than 1 MiB"), "name another file"));
    }
    if reach == Reach::Unchecked {
        return Ok(file);
    }
    if metadata.uid() != 0 && metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err((
            format!("{name} belongs to user {}, who could change it", metadata.uid()),
            "run this as the broker's user, as in runuser -u kerbridge -- kerbridge config check, or chown it to that user or \
             to root",
        ));
    }
    if mode & reach.forbidden() != 0 {
        return Err((
            format!("{name} has mode {mode:04o}, so that others can reach it"),
            reach.remedy(),
        ));
    }
    Ok(file)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Complaint {
    (
        format!("{}: {error}", path.display()),
        "name a file that the broker's user can read",
    )
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for reach in [Reach::Owner, Reach::GroupReads, Reach::Unchecked] {
            let (problem, _) = read(&path, reach).unwrap_err();
            assert!(problem.ends_with("pipe is no regular file"), "{problem}");
        }
    }
}
