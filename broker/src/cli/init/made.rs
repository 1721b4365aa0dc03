//! Writes new files, all of them or none, and overwrites nothing.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A file to be written.
pub(super) struct NewFile {
    /// Relative ones start at the folder.
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    pub(super) text: String,
}

/// Files just written; removed again unless they are kept.
pub(super) struct Made {
    files: Vec<PathBuf>,
    folder: Option<PathBuf>,
}

impl Made {
    /// Writes all of them, or none.
    pub(super) fn write(folder: &Path, files: &[NewFile]) -> Result<Self, String> {
        let there: Vec<String> = files
            .iter()
            .map(|file| folder.join(&file.path))
            .filter(|path| fs::symlink_metadata(path).is_ok())
            .map(|path| path.display().to_string())
            .collect();
        if !there.is_empty() {
            return Err(format!(
                "nothing was written: {} would be overwritten; name another --dir, or move them away",
                there.join(", ")
            ));
        }
        let failed = |path: &Path, error: &io::Error| format!("nothing was written: {}: {error}", path.display());
        let missing = !folder.exists();
        let mut made = Self {
            files: Vec::new(),
            folder: None,
        };
        if missing {
            fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
            made.folder = Some(folder.to_owned());
        }
        for file in files {
            let path = folder.join(&file.path);
            let mut open = fs::OpenOptions::new();
            let opened = open.write(true).create_new(true).mode(file.mode).open(&path);
            let mut handle = opened.map_err(|error| failed(&path, &error))?;
            made.files.push(path.clone());
            handle
                .write_all(file.text.as_bytes())
                .and_then(|()| handle.sync_all())
                .map_err(|error| failed(&path, &error))?;
        }
        Ok(made)
    }

    /// They stay.
    pub(super) fn keep(mut self) {
        self.files.clear();
        self.folder = None;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // What cannot be removed stays, and the next init names it.
        for path in &self.files {
            drop(fs::remove_file(path));
        }
        if let Some(folder) = &self.folder {
            drop(fs::remove_dir(folder));
        }
    }
}
