//! Keeps all files of a run in one folder, which goes when the run ends, and also when it is interrupted.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kerbridge_tests::HarnessError;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempDir;

/// Where run folders are made, and how their names begin: what a crashed lab left is removed only there.
const PREFIX: &str = "kerbridge-lab-";

/// A folder in which every other temporary folder of this process is made.
pub(crate) struct Scratch {
    folder: TempDir,
}

impl Scratch {
    /// Makes the folder. To be called once, before anything else makes a temporary file.
    ///
    /// From then on an interrupt, a hang-up or SIGTERM removes the folder and ends the process; its children end with it.
    pub(crate) fn new() -> Result<Self, HarnessError> {
        let place = std::env::temp_dir();
        let failed = |source| {
            let what = format!(
                "create a folder for the lab in {} (name another with TMPDIR)",
                place.display()
            );
            HarnessError::io(what, source)
        };
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir().map_err(failed)?;
        // Apache may run as another user and has its own folder in here; what else is in here is closed to it.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).map_err(failed)?;
        let taken = |_other| failed(std::io::Error::other("temporary files are kept elsewhere already"));
        tempfile::env::override_temp_dir(folder.path()).map_err(taken)?;
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(failed)?;
        let path = folder.path().to_owned();
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                // The rest of the process runs on until the exit: under another name nothing is added while it is removed.
                let ended = path.with_extension("ended");
                // What cannot be removed is only untidy.
                std::fs::rename(&path, &ended)
                    .and_then(|()| std::fs::remove_dir_all(&ended))
                    .unwrap_or(());
                std::process::exit(signal.saturating_add(128));
            }
        });
        Ok(Self { folder })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the folder of a run that was killed, and nothing that is not one.
pub(crate) fn remove_left(folder: &Path) {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let parent = folder.parent().map(Path::to_owned);
    if name.starts_with(PREFIX) && parent == Some(std::env::temp_dir()) {
        // What cannot be removed is only untidy.
        std::fs::remove_dir_all(PathBuf::from(folder)).unwrap_or(());
    }
}
