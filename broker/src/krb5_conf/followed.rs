//! Keeps the machine's krb5.conf behind our lines in one file, and follows it while the broker runs.
//!
//! libkrb5 looks at each of its files nine times for each ticket. That is a third less work with one file than with two.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{FILE, others, text, write_whole};
use crate::config::KerberosConfig;
use crate::problem::Problem;

/// Largest file of the machine that is copied, in bytes.
const LARGEST: u64 = 256 * 1024;

/// The file in the state directory, and those that libkrb5 is to read beside it.
#[derive(Debug)]
pub struct Followed {
    path: PathBuf,
    own: String,
    machine: Machine,
}

/// What libkrb5 would have read without us.
#[derive(Debug)]
enum Machine {
    /// One file that can stand behind ours: copied, and copied anew when it changes.
    Copied { path: PathBuf, last: Mutex<Copied> },
    /// None, or such as libkrb5 is to read by itself.
    Read(Vec<PathBuf>),
}

#[derive(Debug)]
struct Copied {
    text: String,
    /// A change could not be taken over, which was said.
    behind: bool,
}

impl Followed {
    /// Writes the file, whole or not at all, with what this process would have read without it.
    pub fn write(state_dir: &Path, kerberos: &KerberosConfig) -> Result<Self, Problem> {
        let path = state_dir.join(FILE);
        let others = others(&path);
        Self::write_before(path, text(kerberos), others)
    }

    fn write_before(path: PathBuf, own: String, others: Vec<PathBuf>) -> Result<Self, Problem> {
        let copied = match others.as_slice() {
            [one] => read(one).ok().filter(|text| stands_alone(text)),
            // Where there are several, which of them ends a section for the others (`]*`) must stay theirs to say.
            [] | [_, ..] => None,
        };
        let written = match &copied {
            Some(text) => write_whole(&path, &joined(&own, text)),
            None => write_whole(&path, &own),
        };
        written.map_err(|error| Problem {
            field: "state_dir".into(),
            problem: format!("{}: {error}", path.display()),
            remedy: "let the broker's user own the state directory, mode 0700".into(),
        })?;
        let machine = match (copied, others.first()) {
            (Some(text), Some(one)) => Machine::Copied {
                path: one.clone(),
                last: Mutex::new(Copied { text, behind: false }),
            },
            (None, _) | (_, None) => Machine::Read(others),
        };
        Ok(Self { path, own, machine })
    }

    /// What libkrb5 is to read, in this order.
    pub fn files(&self) -> Vec<&Path> {
        let beside: &[PathBuf] = match &self.machine {
            Machine::Copied { .. } => &[],
            Machine::Read(others) => others,
        };
        std::iter::once(self.path.as_path())
            .chain(beside.iter().map(PathBuf::as_path))
            .collect()
    }

    /// Takes a change of the machine's file over; libkrb5 sees it with the next ticket. Files that it reads by itself it
    /// follows by itself.
    pub fn look(&self) {
        let Machine::Copied { path, last } = &self.machine else {
            return;
        };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match read(path) {
            Ok(text) => text,
            // To libkrb5 that is a file less.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
                String::new()
            }
            Err(error) => return last.stay_behind(path, &error.to_string()),
        };
        if found == last.text {
            last.behind = false;
        } else if !stands_alone(&found) {
            last.stay_behind(path, "it can no longer be copied: restart the broker");
        } else if let Err(error) = write_whole(&self.path, &joined(&self.own, &found)) {
            last.stay_behind(path, &error.to_string());
        } else {
            tracing::info!(file = %path.display(), "the machine's krb5.conf has changed");
            *last = Copied {
                text: found,
                behind: false,
            };
        }
    }
}

impl Copied {
    fn stay_behind(&mut self, path: &Path, problem: &str) {
        if !self.behind {
            tracing::warn!(file = %path.display(), problem, "a change of the machine's krb5.conf is not taken over");
        }
        self.behind = true;
    }
}

fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > LARGEST {
        return Err(io::Error::other("it is too large"));
    }
    fs::read_to_string(path)
}

/// Whether a file means the same behind our lines as in a file of its own. A module (`module PATH:REST` in place of a first
/// section) is in place of a whole file.
fn stands_alone(text: &str) -> bool {
    !text.lines().any(|line| line.starts_with("module"))
}

fn joined(own: &str, machine: &str) -> String {
    format!("{own}\n{machine}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "[libdefaults]\n    clockskew = 60\n";

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new(machine: &[(&str, &str)]) -> (Self, Followed) {
            let folder = Self(tempfile::tempdir().unwrap());
            let others = machine.iter().map(|(name, text)| folder.put(name, text)).collect();
            let followed = Followed::write_before(folder.0.path().join(FILE), OWN.to_owned(), others).unwrap();
            (folder, followed)
        }

        fn put(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, text).unwrap();
            path
        }

        fn written(&self) -> String {
            fs::read_to_string(self.0.path().join(FILE)).unwrap()
        }
    }

    #[test]
    fn the_machines_file_stands_behind_ours_and_is_followed() {
        let (folder, followed) = Folder::new(&[("machine", "[realms]\n")]);
        assert_eq!(folder.written(), format!("{OWN}\n[realms]\n\n"));
        assert_eq!(followed.files(), [folder.0.path().join(FILE)]);
        let untouched = fs::metadata(folder.0.path().join(FILE)).unwrap().modified().unwrap();
        followed.look();
        assert_eq!(
            fs::metadata(folder.0.path().join(FILE)).unwrap().modified().unwrap(),
            untouched
        );
        folder.put("machine", "[capaths]");
        followed.look();
        assert_eq!(folder.written(), format!("{OWN}\n[capaths]\n"));
        fs::remove_file(folder.0.path().join("machine")).unwrap();
        followed.look();
        assert_eq!(folder.written(), format!("{OWN}\n\n"));
        // Nothing is left beside it.
        assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_stand_behind_ours_is_left_to_libkrb5() {
        for machine in [
            [("one", "[realms]\n"), ("two", "[realms]*\n")].as_slice(),
            &[("one", "module /usr/lib/profile.so:rest\n")],
        ] {
            let (folder, followed) = Folder::new(machine);
            assert_eq!(folder.written(), OWN);
            let others = machine.iter().map(|(name, _)| folder.0.path().join(name));
            let all: Vec<PathBuf> = std::iter::once(folder.0.path().join(FILE)).chain(others).collect();
            assert_eq!(followed.files(), all);
            followed.look();
            assert_eq!(folder.written(), OWN);
        }
        let (folder, followed) = Folder::new(&[]);
        assert_eq!(followed.files(), [folder.0.path().join(FILE)]);
    }

    #[test]
    fn a_change_that_cannot_be_taken_over_leaves_what_was() {
        let (folder, followed) = Folder::new(&[("machine", "[realms]\n")]);
        let before = folder.written();
        for change in ["module /usr/lib/profile.so:rest\n".to_owned(), "# ".repeat(200_000)] {
            folder.put("machine", &change);
            followed.look();
            assert_eq!(folder.written(), before);
        }
        folder.put("machine", "[capaths]\n");
        followed.look();
        assert_eq!(folder.written(), format!("{OWN}\n[capaths]\n\n"));
    }
}
