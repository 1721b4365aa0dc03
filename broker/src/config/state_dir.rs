//! Decides whether the state directory is the broker's own, and makes it where it is missing.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::problem::{Problem, Problems};

const FIELD: &str = "state_dir";

pub(super) fn check(path: PathBuf, problems: &mut Problems) -> Option<PathBuf> {
    let name = path.display().to_string();
    if name.contains(':') {
        // It goes into KRB5_CONFIG and into the name of a replay cache, where a colon separates.
        problems.note(FIELD, format!("{name} holds a colon"), "name another folder");
        return None;
    }
    let found = match fs::metadata(&path) {
        Ok(metadata) => {
            let mode = metadata.mode() & 0o7777;
            if !metadata.is_dir() {
                Err((format!("{name} is no folder"), "name a folder"))
            } else if metadata.uid() != rustix::process::geteuid().as_raw() {
                Err((
                    format!("{name} belongs to user {}", metadata.uid()),
                    "run this as the broker's user, as in runuser -u kerbridge -- kerbridge config check, or chown it to that \
                     user",
                ))
            } else if mode & 0o077 != 0 {
                Err((
                    format!("{name} has mode {mode:04o}, so that others can reach it"),
                    "chmod it 0700",
                ))
            } else {
                Ok(())
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && parent_of(&path).is_dir() => Ok(()),
        Err(error) => Err((format!("{name}: {error}"), "make the folder that it is in")),
    };
    match found {
        Ok(()) => Some(path),
        Err((problem, remedy)) => {
            problems.note(FIELD, problem, remedy);
            None
        }
    }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Makes the state directory, mode 0700, where it is missing.
pub fn prepare(path: &Path) -> Result<(), Problem> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Problem {
            field: FIELD.into(),
            problem: format!("{} cannot be made: {error}", path.display()),
            remedy: "let the broker's user write to the folder that it is in, or make it, mode 0700".into(),
        }),
    }
}
