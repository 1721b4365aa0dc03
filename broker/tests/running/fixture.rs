//! A folder with a keytab, the command in it, and a broker that ends with its test.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// aes256-cts-hmac-sha1-96.
pub(crate) const AES: u8 = 18;
/// arcfour-hmac.
pub(crate) const RC4: u8 = 23;

/// A keytab (format 0x0502) with one key of zeros for each service, host and encryption type, in the realm A.TEST.
fn keytab(keys: &[(&str, &str, u8)]) -> Vec<u8> {
    let mut bytes = vec![5, 2];
    for &(service, host, enctype) in keys {
        let mut entry = vec![0, 2];
        for part in ["A.TEST", service, host] {
            entry.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
            entry.extend(part.as_bytes());
        }
        let length = if enctype == RC4 { 16 } else { 32 };
        entry.extend([0, 0, 0, 1, 0, 0, 0, 0, 1, 0, enctype, 0, length]);
        entry.extend(vec![0; usize::from(length)]);
        bytes.extend(u32::try_from(entry.len()).unwrap().to_be_bytes());
        bytes.extend(entry);
    }
    bytes
}

pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.keytab(&[
            ("host", "api.test", AES),
            ("HTTP", "api.test", AES),
            ("HTTP", "www.test", AES),
        ]);
        folder
    }

    pub(crate) fn keytab(&self, keys: &[(&str, &str, u8)]) {
        let path = self.path("http.keytab");
        fs::write(&path, keytab(keys)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn init(&self) -> Output {
        self.run(&["init", "--keytab", "http.keytab", "--dir", "made"])
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kerbridge"));
        command
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_remove("KRB5_CONFIG")
            .env_remove("CREDENTIALS_DIRECTORY");
        command
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A broker that ends with its test.
pub(crate) struct Serving {
    child: Child,
    /// What it logged until it listened, that line included.
    pub(crate) log: String,
}

impl Serving {
    /// Starts it and waits until it listens.
    pub(crate) fn start(folder: &Folder) -> Self {
        let serving = Self::begin(folder).listening();
        serving.unwrap_or_else(|(_, log)| panic!("it ended early: {log}"))
    }

    /// Starts it.
    pub(crate) fn begin(folder: &Folder) -> Self {
        let arguments = ["serve", "--config", "made/kerbridge.toml"];
        Self {
            child: folder.command().args(arguments).spawn().unwrap(),
            log: String::new(),
        }
    }

    /// Waits until it listens, or has ended.
    pub(crate) fn listening(mut self) -> Result<Self, (ExitStatus, String)> {
        // It logs one line for each address, after it is taken.
        let mut output = self.child.stdout.take().unwrap();
        let whole = |(_, rest): (&str, &str)| rest.contains('\n');
        while !self.log.split_once("\"message\":\"listening\"").is_some_and(whole) {
            let mut chunk = [0; 1024];
            let count = output.read(&mut chunk).unwrap();
            if count == 0 {
                let complaint = self.complaint();
                return Err((self.child.wait().unwrap(), complaint));
            }
            self.log.push_str(std::str::from_utf8(&chunk[..count]).unwrap());
        }
        self.child.stdout = Some(output);
        Ok(self)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ended, and all that it logged. It must have had nothing to complain about.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let mut log = std::mem::take(&mut self.log);
        self.child.stdout.take().unwrap().read_to_string(&mut log).unwrap();
        assert_eq!(self.complaint(), "", "{log}");
        (self.child.wait().unwrap(), log)
    }

    fn complaint(&mut self) -> String {
        let mut complaint = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut complaint)
            .unwrap();
        complaint
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

pub(crate) fn get(socket: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: k\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
