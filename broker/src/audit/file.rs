//! Appends audit events to a file, and decides when it is put aside for a new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::log::Sink;
use crate::problem::Problem;

/// A file of audit events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRules {
    /// Where it is.
    pub path: PathBuf,
    /// In bytes; a larger one is put aside. Absent: somebody else rotates it, and sends SIGHUP.
    pub largest: Option<u64>,
    /// How many that were put aside are kept.
    pub keep: u32,
}

/// The file, open.
#[derive(Debug)]
pub(super) struct AuditFile {
    rules: FileRules,
    file: File,
    /// The last line is not whole, and could not be cut off.
    torn: bool,
    /// Length, in bytes, at which it is put aside; further off after an attempt that failed.
    aside_at: u64,
}

/// How much longer it may grow after it could not be put aside.
const PATIENCE: u64 = 1024 * 1024;

impl AuditFile {
    /// Opens it, or makes one: for its owner, and to be read by its group.
    pub(super) fn open(rules: &FileRules) -> Result<Self, Problem> {
        let file = open(&rules.path).map_err(|error| Problem {
            field: "audit.file".into(),
            problem: format!("{}: {error}", rules.path.display()),
            remedy: "name a file in a folder that the broker's user can write".into(),
        })?;
        Ok(Self {
            aside_at: rules.largest.unwrap_or(u64::MAX),
            rules: rules.clone(),
            file,
            torn: false,
        })
    }

    fn append(&mut self, lines: &[Vec<u8>]) -> io::Result<()> {
        let mut bytes = lines.concat();
        let mut length = self.file.metadata()?.len();
        let grown = length.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if length > 0 && grown > self.aside_at {
            match self.put_aside() {
                Ok(()) => length = self.file.metadata()?.len(),
                Err(error) => {
                    self.aside_at = length.saturating_add(PATIENCE);
                    tracing::error!(
                        file = %self.rules.path.display(), %error,
                        "the audit file cannot be put aside, and grows on: let the broker's user write its folder"
                    );
                }
            }
        }
        if self.torn {
            bytes.insert(0, b'\n');
        }
        let written = self.file.write_all(&bytes);
        // A part of a line is worth nothing, and the whole of it is written again.
        self.torn = written.is_err() && self.file.set_len(length).is_err();
        written
    }

    /// Makes room for a new file. Where somebody removed the one that is written, nothing need move.
    fn put_aside(&mut self) -> io::Result<()> {
        if fs::exists(&self.rules.path)? {
            self.shift()?;
        }
        self.open_anew()?;
        self.aside_at = self.rules.largest.unwrap_or(u64::MAX);
        Ok(())
    }

    /// Each that was put aside gets the next number, the last goes.
    fn shift(&self) -> io::Result<()> {
        for number in (1..self.rules.keep).rev() {
            let (from, to) = (self.numbered(number), self.numbered(number.saturating_add(1)));
            match fs::rename(from, to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        fs::rename(&self.rules.path, self.numbered(1))
    }

    fn open_anew(&mut self) -> io::Result<()> {
        self.file = open(&self.rules.path)?;
        // Nothing is torn in a new file; it may be the one of before.
        self.torn &= !self.file.metadata().is_ok_and(|found| found.len() == 0);
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.rules.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

impl Sink for AuditFile {
    fn write(&mut self, lines: &[Vec<u8>]) -> (usize, io::Result<()>) {
        match self.append(lines) {
            Ok(()) => (lines.len(), Ok(())),
            Err(error) => (0, Err(error)),
        }
    }

    fn reopen(&mut self) -> Option<io::Result<()>> {
        Some(self.open_anew())
    }
}

fn open(path: &Path) -> io::Result<File> {
    // To open a pipe would wait for its reader.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::other("is no file"));
    }
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn rules(folder: &Path, largest: Option<u64>, keep: u32) -> FileRules {
        FileRules {
            path: folder.join("audit.log"),
            largest,
            keep,
        }
    }

    fn write(file: &mut AuditFile, line: &str) {
        let (written, outcome) = file.write(&[format!("{line}\n").into_bytes()]);
        outcome.unwrap();
        assert_eq!(written, 1);
    }

    fn read(folder: &Path, name: &str) -> Option<String> {
        fs::read_to_string(folder.join(name)).ok()
    }

    #[test]
    fn a_file_that_is_full_is_put_aside_and_only_so_many_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = AuditFile::open(&rules(folder.path(), Some(8), 2)).unwrap();
        for line in ["one", "two", "three", "four", "five"] {
            write(&mut file, line);
        }
        let found = ["audit.log", "audit.log.1", "audit.log.2", "audit.log.3"].map(|name| read(folder.path(), name));
        let expected = ["five\n", "four\n", "three\n"].map(|text| Some(text.to_owned()));
        assert_eq!(found[..3], expected);
        assert_eq!(found[3], None);
        let mode = fs::metadata(folder.path().join("audit.log"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");
    }

    #[test]
    fn a_line_that_is_longer_than_a_file_may_be_is_whole_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = AuditFile::open(&rules(folder.path(), Some(3), 1)).unwrap();
        write(&mut file, "long one");
        write(&mut file, "long two");
        assert_eq!(read(folder.path(), "audit.log").unwrap(), "long two\n");
        assert_eq!(read(folder.path(), "audit.log.1").unwrap(), "long one\n");
    }

    #[test]
    fn what_is_there_at_the_start_is_kept_and_a_file_that_was_moved_away_is_made_anew_when_told_to() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("audit.log"), "before\n").unwrap();
        let mut file = AuditFile::open(&rules(folder.path(), None, 1)).unwrap();
        write(&mut file, "one");
        fs::rename(folder.path().join("audit.log"), folder.path().join("moved")).unwrap();
        write(&mut file, "two");
        assert_eq!(read(folder.path(), "moved").unwrap(), "before\none\ntwo\n");
        file.reopen().unwrap().unwrap();
        write(&mut file, "three");
        assert_eq!(read(folder.path(), "audit.log").unwrap(), "three\n");
        // copytruncate
        fs::write(folder.path().join("audit.log"), "").unwrap();
        write(&mut file, "four");
        assert_eq!(read(folder.path(), "audit.log").unwrap(), "four\n");
    }

    #[test]
    fn a_file_that_somebody_removed_is_made_anew_and_those_that_were_put_aside_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = AuditFile::open(&rules(folder.path(), Some(8), 3)).unwrap();
        for line in ["one", "two", "three"] {
            write(&mut file, line);
        }
        fs::remove_file(folder.path().join("audit.log")).unwrap();
        for line in ["four", "five"] {
            write(&mut file, line);
        }
        let found =
            ["audit.log", "audit.log.1", "audit.log.2"].map(|name| read(folder.path(), name).unwrap_or_default());
        assert_eq!(found, ["five\n", "four\n", "one\ntwo\n"]);
    }

    #[test]
    fn no_line_feed_is_put_before_the_first_line_of_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = AuditFile::open(&rules(folder.path(), Some(4), 1)).unwrap();
        write(&mut file, "one");
        file.torn = true;
        write(&mut file, "two");
        assert_eq!(read(folder.path(), "audit.log").unwrap(), "two\n");
    }

    #[test]
    fn a_file_that_cannot_be_put_aside_is_written_on() {
        let folder = tempfile::tempdir().unwrap();
        // A folder that is not empty stands in the way.
        fs::create_dir_all(folder.path().join("audit.log.1/in")).unwrap();
        let mut file = AuditFile::open(&rules(folder.path(), Some(4), 1)).unwrap();
        for line in ["one", "two", "three"] {
            write(&mut file, line);
        }
        assert_eq!(read(folder.path(), "audit.log").unwrap(), "one\ntwo\nthree\n");
    }

    #[test]
    fn what_is_no_file_or_in_no_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("audit.log")).unwrap();
        let problem = AuditFile::open(&rules(folder.path(), None, 1)).unwrap_err().to_string();
        assert!(
            problem.starts_with("audit.file: ") && problem.contains("is no file"),
            "{problem}"
        );
        let absent = rules(&folder.path().join("absent"), None, 1);
        let problem = AuditFile::open(&absent).unwrap_err().to_string();
        assert!(problem.contains("No such file"), "{problem}");
    }
}
