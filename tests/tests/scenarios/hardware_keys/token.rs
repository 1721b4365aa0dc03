//! A token that SoftHSM plays, and one in front of it that misbehaves where a test says so.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, fcntl_lock};
use tempfile::TempDir;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "5678";

/// A token in a folder of its own.
pub(crate) struct Token {
    folder: TempDir,
    module: PathBuf,
}

impl Token {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tokens")).unwrap();
        let token = Self {
            folder,
            module: MODULE.into(),
        };
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\n",
            token.path("tokens").display()
        );
        fs::write(token.path("softhsm2.conf"), text).unwrap();
        let made = Command::new("env")
            .arg(token.environment())
            .args(["softhsm2-util", "--init-token", "--free", "--label", "kerbridge"])
            .args(["--pin", PIN, "--so-pin", "1234"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let pin = token.path("token.pin");
        fs::write(&pin, PIN).unwrap();
        fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
        token
    }

    /// One that does as a test says by [`Token::misbehave`].
    pub(crate) fn misbehaving() -> Self {
        let mut token = Self::new();
        let (source, module) = (token.path("token.c"), token.path("token.so"));
        fs::write(&source, include_str!("token.c")).unwrap();
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&module, &source])
            .arg(format!("-DMODULE=\"{MODULE}\""))
            .arg(format!("-DFOLDER=\"{}\"", token.folder.path().display()))
            .output()
            .unwrap();
        assert!(
            compiled.status.success(),
            "{}",
            String::from_utf8_lossy(&compiled.stderr)
        );
        token.module = module;
        token
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The environment that leads to it.
    pub(crate) fn environment(&self) -> String {
        format!("SOFTHSM2_CONF={}", self.path("softhsm2.conf").display())
    }

    /// The table of `kerbridge.toml` for it.
    pub(crate) fn table(&self) -> String {
        let (module, pin) = (&self.module, self.path("token.pin"));
        format!("[keys.pkcs11]\nmodule = {module:?}\ntoken = \"kerbridge\"\npin_file = {pin:?}\n")
    }

    fn slot(&self) -> PathBuf {
        let mut slots = fs::read_dir(self.path("tokens")).unwrap();
        slots.next().unwrap().unwrap().path()
    }

    /// How many objects it holds: two halves for each key.
    pub(crate) fn objects(&self) -> usize {
        let is_object = |name: &str| name.ends_with(".object") && name != "token.object";
        fs::read_dir(self.slot())
            .unwrap()
            .filter(|file| is_object(&file.as_ref().unwrap().file_name().to_string_lossy()))
            .count()
    }

    /// Hangs until what is returned is dropped: whoever asks SoftHSM for anything waits for this lock.
    pub(crate) fn hang(&self) -> fs::File {
        let generation = self.slot().join("generation");
        let held = fs::OpenOptions::new().read(true).write(true).open(generation).unwrap();
        fcntl_lock(&held, FlockOperation::LockExclusive).unwrap();
        held
    }

    /// Takes it away.
    pub(crate) fn remove(&self) {
        fs::rename(self.path("tokens"), self.path("away")).unwrap();
    }

    /// Misbehaves in this way from now on.
    pub(crate) fn misbehave(&self, how: &str) {
        fs::write(self.path(how), "").unwrap();
    }

    /// Does so no more.
    pub(crate) fn behave(&self, how: &str) {
        fs::remove_file(self.path(how)).unwrap();
    }

    /// Whether it misbehaves so still.
    pub(crate) fn misbehaves(&self, how: &str) -> bool {
        Path::exists(&self.path(how))
    }

    /// How often somebody has tried to log in.
    pub(crate) fn log_ins(&self) -> usize {
        fs::read(self.path("log-ins")).unwrap_or_default().len()
    }
}
