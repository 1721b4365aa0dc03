//! Keeps tokens where their owner alone reads them, and hands out those that are good for a while yet.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::exchange::BearerToken;
use super::trouble::{Kind, Trouble};
use crate::hexadecimal;
use crate::time::UnixTime;

/// Largest file that is read, in bytes.
const LARGEST: u64 = 128 * 1024;
/// Most names that are looked at in a folder.
const MOST: usize = 10_000;
/// A token is handed out until a fourth of its life is left.
const SHARE: u64 = 4;

/// For which service a token is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// By its address, as it spells it.
    Resource(String),
    /// By its broker and its name there.
    Audience { issuer: String, audience: String },
}

impl Target {
    /// What kind of name it has, as a member of JSON, and the name.
    pub(crate) const fn named(&self) -> (&'static str, &String) {
        match self {
            Self::Resource(address) => ("resource", address),
            Self::Audience { audience, .. } => ("audience", audience),
        }
    }
}

/// A token, and what there is to say of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    pub(crate) principal: String,
    pub(crate) target: Target,
    pub(crate) issuer: String,
    /// Scopes that were asked for; none asks for all.
    pub(crate) wanted: Vec<String>,
    /// Scopes that were given, separated by spaces.
    pub(crate) scope: String,
    pub(crate) access_token: BearerToken,
    pub(crate) issued_at: u64,
    pub(crate) expires_at: u64,
    /// Where it is taken back.
    pub(crate) revocation_endpoint: Option<String>,
    /// The file of the authority that the broker was trusted by.
    pub(crate) ca: Option<PathBuf>,
}

impl Kept {
    /// Seconds that are left.
    pub(crate) fn left(&self, now: UnixTime) -> u64 {
        now.until(UnixTime::from_seconds(self.expires_at))
    }

    /// Whether it is worth handing out without asking for another. One from the future is not: a clock went back.
    pub(super) fn is_fresh(&self, now: UnixTime) -> bool {
        let life = self.expires_at.saturating_sub(self.issued_at);
        self.issued_at <= now.seconds() && self.left(now) > life / SHARE
    }

    fn key(&self) -> Key {
        Key::of(&self.principal, &self.target, &self.wanted)
    }
}

/// The name of a file: what a token is for, and whose it is, without saying either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    pub(super) fn of(principal: &str, target: &Target, wanted: &[String]) -> Self {
        let text = serde_json::json!([principal, target, wanted]).to_string();
        Self(hexadecimal::digits(digest(&SHA256, text.as_bytes()).as_ref()))
    }
}

/// A folder that nobody else may look into.
pub(super) struct Folder {
    open: OwnedFd,
    path: PathBuf,
}

/// As long as it lives nobody else asks for the same token.
pub(super) struct Turn {
    _locked: File,
}

impl Folder {
    /// Opens the folder, and makes it where there is none.
    pub(super) fn open(path: &Path) -> Result<Self, Trouble> {
        let unusable = |why: String, remedy: String| {
            let problem = format!("the folder of tokens {} cannot be used: {why}", path.display());
            Trouble::new(Kind::CacheUnusable, problem, remedy)
        };
        let elsewhere = || "name a folder of your own with --cache".to_owned();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| unusable(error.to_string(), elsewhere()))?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = rustix::fs::open(path, flags, Mode::empty());
        // Not followed: whoever could set a link there could choose where the tokens go.
        let open = open.map_err(|error| unusable(format!("{error} (a link is not followed)"), elsewhere()))?;
        let found = rustix::fs::fstat(&open).map_err(|error| unusable(error.to_string(), elsewhere()))?;
        if found.st_uid != rustix::process::geteuid().as_raw() {
            return Err(unusable("it is somebody else's".to_owned(), elsewhere()));
        }
        if found.st_mode & 0o077 != 0 {
            let remedy = format!("chmod 700 {}", path.display());
            return Err(unusable("others may look into it".to_owned(), remedy));
        }
        Ok(Self {
            open,
            path: path.to_owned(),
        })
    }

    /// The token of a key. A file that is not as it was written is none: it is replaced with the next token.
    pub(super) fn find(&self, key: &Key) -> Result<Option<Kept>, Trouble> {
        let Some(bytes) = self.read(&format!("{}.json", key.0))? else {
            return Ok(None);
        };
        let kept: Option<Kept> = serde_json::from_slice(&bytes).ok();
        Ok(kept.filter(|kept| kept.key() == *key))
    }

    /// All tokens, and removes the files of those that have ended.
    pub(super) fn all(&self, now: UnixTime) -> Result<Vec<Kept>, Trouble> {
        let folder = Dir::read_from(&self.open).map_err(|error| self.failed(&error.into()))?;
        let mut found = Vec::new();
        for entry in folder.take(MOST) {
            let entry = entry.map_err(|error| self.failed(&error.into()))?;
            let name = entry.file_name().to_string_lossy();
            let Some(key) = name.strip_suffix(".json").map(|key| Key(key.to_owned())) else {
                continue;
            };
            match self.find(&key)? {
                Some(kept) if kept.left(now) > 0 => found.push(kept),
                Some(_) => self.remove(&key)?,
                None => {}
            }
        }
        Ok(found)
    }

    /// Keeps a token in the place of the one before, at once or not at all.
    pub(super) fn keep(&self, kept: &Kept) -> Result<(), Trouble> {
        let text = serde_json::to_vec(kept).map_err(|error| self.failed(&error.into()))?;
        self.write(&format!("{}.json", kept.key().0), &text)
    }

    /// Forgets a token.
    pub(super) fn forget(&self, kept: &Kept) -> Result<(), Trouble> {
        self.remove(&kept.key())
    }

    /// Waits until nobody else asks for the token of this key. Each does so for some seconds at most.
    pub(super) fn turn(&self, key: &Key) -> Result<Turn, Trouble> {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = format!("{}.lock", key.0);
        let file = rustix::fs::openat(&self.open, name, flags, Mode::RUSR | Mode::WUSR);
        let file = file.map(File::from).map_err(|error| self.failed(&error.into()))?;
        file.lock().map_err(|error| self.failed(&error))?;
        Ok(Turn { _locked: file })
    }

    /// Whole, or not there. What others could have written is not read.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Trouble> {
        // A pipe would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.open, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(self.failed(&error.into())),
        };
        let found = file.metadata().map_err(|error| self.failed(&error))?;
        let is_ours = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0;
        if !found.is_file() || !is_ours || found.len() > LARGEST {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let read = file.take(LARGEST).read_to_end(&mut bytes);
        read.map_err(|error| self.failed(&error))?;
        Ok(Some(bytes))
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Trouble> {
        let beside = format!(".{name}.{}", std::process::id());
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&self.open, &beside, flags, Mode::RUSR | Mode::WUSR);
        let file = match open() {
            // Of a process that had this number and was killed.
            Err(rustix::io::Errno::EXIST) => {
                self.unlink(&beside)?;
                open()
            }
            opened => opened,
        };
        let mut file = file.map(File::from).map_err(|error| self.failed(&error.into()))?;
        let written = file.write_all(bytes);
        let moved = written.and_then(|()| Ok(rustix::fs::renameat(&self.open, &beside, &self.open, name)?));
        moved.map_err(|error| {
            // Whether it can be removed or not, the failure is the one before.
            drop(self.unlink(&beside));
            self.failed(&error)
        })
    }

    fn remove(&self, key: &Key) -> Result<(), Trouble> {
        self.unlink(format!("{}.json", key.0))
    }

    /// Removes a file, or nothing where there is none.
    pub(super) fn unlink(&self, name: impl AsRef<OsStr>) -> Result<(), Trouble> {
        match rustix::fs::unlinkat(&self.open, name.as_ref(), AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed(&error.into())),
        }
    }

    fn failed(&self, error: &io::Error) -> Trouble {
        Trouble::new(
            Kind::CacheUnusable,
            format!("the folder of tokens {} cannot be used: {error}", self.path.display()),
            "mend it, or name another with --cache",
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const NOW: UnixTime = UnixTime::from_seconds(1000);

    fn kept(principal: &str, expires_at: u64) -> Kept {
        Kept {
            principal: principal.to_owned(),
            target: Target::Resource("https://api.example.com/orders".to_owned()),
            issuer: "https://broker.example.com".to_owned(),
            wanted: Vec::new(),
            scope: "orders:read".to_owned(),
            access_token: BearerToken::try_from("a.b.c".to_owned()).unwrap(),
            issued_at: 1000,
            expires_at,
            revocation_endpoint: None,
            ca: None,
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_token_is_kept_for_its_owner_alone_and_found_by_what_it_is_for() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a/kerbridge");
        let folder = Folder::open(&path).unwrap();
        let token = kept("alice@LAB.TEST", 1900);
        folder.keep(&token).unwrap();
        folder.keep(&token).unwrap();
        let file = path.join(format!("{}.json", token.key().0));
        assert_eq!((mode(&path), mode(&file)), (0o700, 0o600));
        let found = Folder::open(&path).unwrap().find(&token.key()).unwrap().unwrap();
        assert_eq!(found.access_token.as_str(), "a.b.c");
        // Nothing of how it was written is left.
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        assert!(folder.find(&kept("bob@LAB.TEST", 1900).key()).unwrap().is_none());
        let scoped = Kept {
            wanted: vec!["orders:read".to_owned()],
            ..token.clone()
        };
        assert!(folder.find(&scoped.key()).unwrap().is_none());
        assert!(!format!("{found:?}").contains("a.b.c"));
        folder.forget(&token).unwrap();
        folder.forget(&token).unwrap();
        assert!(folder.find(&token.key()).unwrap().is_none());
    }

    #[test]
    fn a_folder_that_others_reach_and_a_link_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let (open, link) = (home.path().join("open"), home.path().join("link"));
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o750)).unwrap();
        let refused = |path: &Path| Folder::open(path).map(drop).unwrap_err();
        assert!(refused(&open).remedy.starts_with("chmod 700"), "{}", refused(&open));
        fs::set_permissions(&open, fs::Permissions::from_mode(0o700)).unwrap();
        symlink(&open, &link).unwrap();
        assert_eq!(refused(&link).kind, Kind::CacheUnusable);
        assert_eq!(refused(Path::new("/proc/kerbridge")).kind, Kind::CacheUnusable);
        Folder::open(&open).map(drop).unwrap();
    }

    #[test]
    fn what_is_no_file_of_ours_is_no_token_and_never_followed() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("kerbridge");
        let folder = Folder::open(&path).unwrap();
        let token = kept("alice@LAB.TEST", 1900);
        let name = format!("{}.json", token.key().0);
        let file = path.join(&name);
        let good = serde_json::to_vec(&token).unwrap();
        let elsewhere = home.path().join("elsewhere");
        fs::write(&elsewhere, &good).unwrap();
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&elsewhere, &file).unwrap();
        assert_eq!(folder.find(&token.key()).unwrap_err().kind, Kind::CacheUnusable);
        // The link is replaced, and what it led to is not written.
        folder.keep(&kept("alice@LAB.TEST", 1950)).unwrap();
        assert_eq!(fs::read(&elsewhere).unwrap(), good);
        assert_eq!(folder.find(&token.key()).unwrap().unwrap().expires_at, 1950);
        for bytes in [&b"{"[..], b"", b"{\"principal\":\"alice\"}"] {
            fs::write(&file, bytes).unwrap();
            assert!(folder.find(&token.key()).unwrap().is_none());
        }
        // Another's token under this name, and a file that others may read.
        fs::write(&file, serde_json::to_vec(&kept("bob@LAB.TEST", 1900)).unwrap()).unwrap();
        assert!(folder.find(&token.key()).unwrap().is_none());
        fs::write(&file, &good).unwrap();
        assert!(folder.find(&token.key()).unwrap().is_some());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(folder.find(&token.key()).unwrap().is_none());
    }

    #[test]
    fn a_token_is_handed_out_until_a_fourth_of_its_life_is_left() {
        let token = kept("alice@LAB.TEST", 1400);
        for (now, fresh) in [(999, false), (1000, true), (1299, true), (1300, false), (1500, false)] {
            assert_eq!(token.is_fresh(UnixTime::from_seconds(now)), fresh, "{now}");
        }
        assert_eq!(token.left(UnixTime::from_seconds(1500)), 0);
    }

    #[test]
    fn tokens_that_have_ended_are_not_left_behind() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("kerbridge");
        let folder = Folder::open(&path).unwrap();
        folder.keep(&kept("alice@LAB.TEST", 1001)).unwrap();
        folder.keep(&kept("bob@LAB.TEST", 1000)).unwrap();
        let all = folder.all(NOW).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].principal, "alice@LAB.TEST");
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    }

    #[test]
    fn one_waits_for_the_other() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("kerbridge");
        let folder = Folder::open(&path).unwrap();
        let key = kept("alice@LAB.TEST", 1400).key();
        let turn = folder.turn(&key).unwrap();
        let file = File::open(path.join(format!("{}.lock", key.0))).unwrap();
        assert!(file.try_lock().is_err());
        drop(turn);
        assert!(file.try_lock().is_ok());
    }
}
