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
    /// What the last look found in its place: taken over where the next one finds the same, since somebody may be writing it.
    found: Option<String>,
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
            [one] => read(one).ok().filter(|text| stands_alone(text) && is_whole(text)),
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
                last: Mutex::new(Copied {
                    text,
                    found: None,
                    behind: false,
                }),
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

    /// Takes a change of the machine's file over once two looks in a row find it, and find it whole; libkrb5 sees it with the
    /// next ticket. Files that it reads by itself it follows by itself.
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
            last.found = None;
            last.behind = false;
            return;
        }
        if last.found.as_ref() != Some(&found) {
            last.found = Some(found);
            return;
        }
        if !stands_alone(&found) {
            last.stay_behind(path, "it can no longer be copied: restart the broker");
        } else if !is_whole(&found) {
            last.stay_behind(
                path,
                "a section or a brace of it is not closed, or a line is none: correct it",
            );
        } else if let Err(error) = write_whole(&self.path, &joined(&self.own, &found)) {
            last.stay_behind(path, &error.to_string());
        } else {
            tracing::info!(file = %path.display(), "the machine's krb5.conf has changed");
            *last = Copied {
                text: found,
                found: None,
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

/// Whether it can be a whole profile: each line is one that MIT's parser knows, and each brace is closed. Half of a file that
/// somebody writes seldom is; whether it is still being written the next look shows.
fn is_whole(text: &str) -> bool {
    let mut depth: u32 = 0;
    for line in text.lines().map(str::trim) {
        let is_comment = line.is_empty() || line.starts_with(['#', ';']);
        let is_section = line.starts_with('[') && line.contains(']') && depth == 0;
        let is_include = ["include ", "include\t", "includedir ", "includedir\t"]
            .iter()
            .any(|word| line.starts_with(word));
        if is_comment || is_section || is_include {
            continue;
        }
        if line.starts_with('}') {
            match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return false,
            }
        } else if line.starts_with('{')
            || line
                .split_once('=')
                .is_some_and(|(_, value)| value.trim().starts_with('{'))
        {
            depth = depth.saturating_add(1);
        } else if !line.contains('=') {
            return false;
        }
    }
    depth == 0
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
        followed.look();
        assert_eq!(
            fs::metadata(folder.0.path().join(FILE)).unwrap().modified().unwrap(),
            untouched
        );
        folder.put("machine", "[capaths]");
        followed.look();
        followed.look();
        assert_eq!(folder.written(), format!("{OWN}\n[capaths]\n"));
        fs::remove_file(folder.0.path().join("machine")).unwrap();
        followed.look();
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
            &[("one", "[realms]\n A.TEST = {\n")],
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
    fn a_file_that_somebody_writes_just_now_is_taken_over_once_it_is_whole() {
        const WHOLE: &str = "[realms]\n A.TEST = {\n  kdc = kdc1.a.test\n }\n[domain_realm]\n .a.test = A.TEST\n";
        let (folder, followed) = Folder::new(&[("machine", "[capaths]\n")]);
        let before = folder.written();
        // Emptied and written bit by bit: each look finds more of it.
        for end in (0..WHOLE.len()).step_by(3) {
            let half = WHOLE.get(..end).unwrap();
            folder.put("machine", half);
            followed.look();
            assert_eq!(folder.written(), before, "{half}");
        }
        // Whoever wrote it stopped in the midst of a realm, or of a line.
        for half in [
            "[realms]\n A.TEST = {\n  kdc = kd",
            "[realms]\n A.TEST = {\n",
            "[realms]\n A.T",
            "[real",
        ] {
            folder.put("machine", half);
            for _ in 0..3 {
                followed.look();
            }
            assert_eq!(folder.written(), before, "{half}");
        }
        folder.put("machine", WHOLE);
        followed.look();
        assert_eq!(folder.written(), before);
        followed.look();
        assert_eq!(folder.written(), format!("{OWN}\n{WHOLE}\n"));
    }

    #[test]
    fn whatever_the_parser_knows_is_whole() {
        for text in [
            "",
            "# nothing\n; at all\n",
            "include /etc/krb5/a.conf\nincludedir /etc/krb5.conf.d/\n[libdefaults]*\n",
            "[realms]\n A.TEST =\n {\n kdc = a\n auth_to_local_names = {\n  x = y\n }*\n }\n",
        ] {
            assert!(is_whole(text), "{text}");
        }
        for text in ["}\n", "[realms\n", "[realms]\n A = {\n[x]\n }\n", "word\n"] {
            assert!(!is_whole(text), "{text}");
        }
    }

    #[test]
    fn a_change_that_cannot_be_taken_over_leaves_what_was() {
        let (folder, followed) = Folder::new(&[("machine", "[realms]\n")]);
        let before = folder.written();
        for change in ["module /usr/lib/profile.so:rest\n".to_owned(), "# ".repeat(200_000)] {
            folder.put("machine", &change);
            followed.look();
            followed.look();
            assert_eq!(folder.written(), before);
        }
        folder.put("machine", "[capaths]\n");
        followed.look();
        followed.look();
        assert_eq!(folder.written(), format!("{OWN}\n[capaths]\n\n"));
    }
}
