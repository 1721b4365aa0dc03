//! The command line as a user meets it: exit codes, problems with remedies, and an `init` whose result runs.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests and their helpers may fail loudly"
)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A keytab (format 0x0502) with one AES key of zeros for each service, `HTTP/<host>@A.TEST`.
fn keytab(names: &[&[&str]]) -> Vec<u8> {
    let mut bytes = vec![5, 2];
    for components in names {
        let mut entry = u16::try_from(components.len()).unwrap().to_be_bytes().to_vec();
        for part in std::iter::once(&"A.TEST").chain(components.iter()) {
            entry.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
            entry.extend(part.as_bytes());
        }
        entry.extend([0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 18, 0, 32]);
        entry.extend([0; 32]);
        bytes.extend(u32::try_from(entry.len()).unwrap().to_be_bytes());
        bytes.extend(entry);
    }
    bytes
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.keytab(&[&["host", "api.test"], &["HTTP", "api.test"], &["HTTP", "www.test"]]);
        folder
    }

    fn keytab(&self, names: &[&[&str]]) {
        let path = self.path("http.keytab");
        fs::write(&path, keytab(names)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn init(&self) -> Output {
        self.run(&["init", "--keytab", "http.keytab", "--dir", "made"])
    }

    fn run(&self, arguments: &[&str]) -> Output {
        command(self.0.path()).args(arguments).output().unwrap()
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kerbridge"));
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .env_remove("KRB5_CONFIG")
        .env_remove("CREDENTIALS_DIRECTORY");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A broker that ends with its test.
struct Serving(Child);

impl Serving {
    fn start(folder: &Folder) -> Self {
        let mut child = command(folder.0.path())
            .args(["serve", "--config", "made/kerbridge.toml"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It logs one line for each address, after it is taken.
        let mut log = String::new();
        let mut output = child.stdout.take().unwrap();
        while !log.contains("\"message\":\"listening\"") {
            let mut chunk = [0; 1024];
            let count = output.read(&mut chunk).unwrap();
            assert_ne!(count, 0, "it ended early: {log}");
            log.push_str(std::str::from_utf8(&chunk[..count]).unwrap());
        }
        child.stdout = Some(output);
        Self(child)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn end(mut self) -> (ExitStatus, String) {
        let mut log = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut log).unwrap();
        (self.0.wait().unwrap(), log)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }
}

fn get(socket: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: k\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_wrong_command_line_is_64_and_help_is_0() {
    let folder = Folder::new();
    for arguments in [
        &[][..],
        &["config"],
        &["policy"],
        &["sreve"],
        &["serve", "--confg", "x"],
        &["init"],
        &["config", "check", "--output", "xml"],
        &["completion", "tcsh"],
    ] {
        let output = folder.run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["policy", "render", "--help"],
        &["--version"],
    ] {
        let output = folder.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty(), "{arguments:?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let output = folder.run(&["completion", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(text(&output.stdout).contains("kerbridge"), "{shell}");
    }
}

#[test]
fn init_writes_a_configuration_that_runs_and_stops_cleanly() {
    let folder = Folder::new();
    let output = folder.init();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for name in ["kerbridge.toml", "policy.toml", "kek", "filter.yaml"] {
        assert!(folder.path("made").join(name).is_file(), "{name}");
    }
    let mode = fs::metadata(folder.path("made/kek")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for check in ["config", "policy"] {
        let output = folder.run(&[check, "check", "--config", "made/kerbridge.toml"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    let socket = folder.path("made/mesh.sock");
    let keys = |socket: &Path| {
        let answer = get(socket, "/.well-known/jwks.json");
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    let broker = Serving::start(&folder);
    assert!(get(&socket, "/readyz").starts_with("HTTP/1.1 200 "));
    let first = keys(&socket);
    broker.signal(Signal::TERM);
    let (status, log) = broker.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("\"message\":\"stopped\""), "{log}");
    assert!(!socket.exists());
    // The next one has the same keys, and ends on the other signal too.
    let broker = Serving::start(&folder);
    assert_eq!(keys(&socket), first);
    broker.signal(Signal::INT);
    assert_eq!(broker.end().0.code(), Some(0));
}

#[test]
fn a_broker_that_was_killed_leaves_nothing_in_the_way() {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    let broker = Serving::start(&folder);
    broker.signal(Signal::KILL);
    assert!(!broker.end().0.success());
    assert!(folder.path("made/mesh.sock").exists());
    drop(Serving::start(&folder));
}

#[test]
fn init_never_overwrites_and_leaves_all_or_nothing() {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    let before = fs::read(folder.path("made/kek")).unwrap();
    fs::remove_file(folder.path("made/filter.yaml")).unwrap();
    let output = folder.init();
    assert_eq!(output.status.code(), Some(78));
    let complaint = text(&output.stderr);
    assert!(
        complaint.contains("made/kek, made/policy.toml, made/kerbridge.toml would be overwritten"),
        "{complaint}"
    );
    assert_eq!(fs::read(folder.path("made/kek")).unwrap(), before);
    assert!(!folder.path("made/filter.yaml").exists());
    // An issuer that cannot be one is found when all is written, and all of it goes again.
    let output = folder.run(&[
        "init",
        "--keytab",
        "http.keytab",
        "--dir",
        "other",
        "--issuer",
        "http://x",
    ]);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        text(&output.stderr).contains("issuer: \"http://x\" is no issuer"),
        "{}",
        text(&output.stderr)
    );
    assert!(!folder.path("other").exists());
}

#[test]
fn init_says_what_is_wrong_with_a_keytab() {
    let folder = Folder::new();
    let complaint = |folder: &Folder| {
        let output = folder.init();
        assert_eq!(output.status.code(), Some(78));
        assert!(!folder.path("made").exists());
        text(&output.stderr)
    };
    fs::set_permissions(folder.path("http.keytab"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(complaint(&folder).contains("has mode 0644"));
    folder.keytab(&[&["host", "api.test"]]);
    assert!(complaint(&folder).contains("holds no HTTP/… principal; it holds host/api.test@A.TEST"));
    fs::write(folder.path("http.keytab"), "x").unwrap();
    assert!(complaint(&folder).contains("not a keytab"));
    fs::remove_file(folder.path("http.keytab")).unwrap();
    assert!(complaint(&folder).contains("No such file"));
}

#[test]
fn a_wrong_configuration_is_78_before_anything_is_made() {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    let config = folder.path("made/kerbridge.toml");
    let good = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        good.replace("HTTP/www.test", "HTTP/xxx.test")
            .replace("\"kek\"", "\"kkk\""),
    )
    .unwrap();
    for arguments in [&["serve"][..], &["config", "check"]] {
        let output = folder.run(&[arguments, &["--config", "made/kerbridge.toml"]].concat());
        assert_eq!(output.status.code(), Some(78));
        let complaint = text(&output.stderr);
        assert!(complaint.contains("2 problems in made/kerbridge.toml"), "{complaint}");
        assert!(complaint.contains("kerberos.acceptor[1].principal: "), "{complaint}");
        assert!(complaint.contains("keys.key_encryption_key_file: "), "{complaint}");
    }
    assert!(!folder.path("made/state").exists());
    assert!(!folder.path("made/mesh.sock").exists());
    let output = folder.run(&["config", "check", "--output", "json", "--config", "made/kerbridge.toml"]);
    assert_eq!(output.status.code(), Some(78));
    let problems: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(problems.as_array().unwrap().len(), 2);
    assert_eq!(problems[0]["field"], "kerberos.acceptor[1].principal");
    assert!(problems[0]["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()));
}

#[test]
fn addresses_in_use_are_78_and_all_are_named() {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = folder.path("made/kerbridge.toml");
    let observe = format!("\n[listen.observe]\ntcp = \"127.0.0.1:{port}\"\nclear_text = true\n");
    fs::write(&config, fs::read_to_string(&config).unwrap() + &observe).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(folder.path("made/mesh.sock")).unwrap();
    let output = folder.run(&["serve", "--config", "made/kerbridge.toml"]);
    assert_eq!(output.status.code(), Some(78));
    let complaint = text(&output.stderr);
    assert!(
        complaint.contains("listen.mesh.unix: ") && complaint.contains("somebody answers there"),
        "{complaint}"
    );
    assert!(
        complaint.contains("listen.observe.tcp: ") && complaint.contains("address already in use"),
        "{complaint}"
    );
    assert!(!text(&output.stdout).contains("listening"));
    assert!(folder.path("made/mesh.sock").exists());
}

#[test]
fn another_key_encryption_key_stops_the_start_and_says_how_to_recover() {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    drop(Serving::start(&folder));
    fs::write(folder.path("made/kek"), "A".repeat(43)).unwrap();
    let output = folder.run(&["serve", "--config", "made/kerbridge.toml"]);
    assert_eq!(output.status.code(), Some(78));
    let complaint = text(&output.stderr);
    assert!(
        complaint.contains("keyring.json does not open") && complaint.contains("from a backup"),
        "{complaint}"
    );
}

#[test]
fn the_policy_is_rendered_as_json_and_as_envoys_entry() {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    fs::write(folder.path("module.wasm"), b"abc").unwrap();
    let render = |more: &[&str]| {
        let output = folder.run(&[&["policy", "render", "--config", "made/kerbridge.toml"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let config: Value = serde_json::from_str(&render(&["--format", "json"])).unwrap();
    assert_eq!(config["issuers"][0]["issuer"], "https://kerbridge.a.test");
    assert_eq!(config["routes"].as_array().unwrap().len(), 2);
    let yaml = render(&["--module", "module.wasm"]);
    // sha256 of "abc", FIPS 180-2 appendix B.1.
    assert!(
        yaml.contains("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        "{yaml}"
    );
    assert!(
        yaml.contains(&format!("filename: {:?}", folder.path("module.wasm"))),
        "{yaml}"
    );
    let yaml = render(&["--module", "module.wasm", "--deployed-module", "/m.wasm"]);
    assert!(yaml.contains("filename: \"/m.wasm\"\n"), "{yaml}");
    // What init wrote is what render writes.
    assert!(
        fs::read_to_string(folder.path("made/filter.yaml"))
            .unwrap()
            .ends_with(&render(&[]))
    );

    let output = folder.run(&["policy", "render", "--inline-keys", "--config", "made/kerbridge.toml"]);
    assert_eq!(
        output.status.code(),
        Some(78),
        "there are no keys before the first start"
    );
    drop(Serving::start(&folder));
    let inline: Value = serde_json::from_str(&render(&["--format", "json", "--inline-keys"])).unwrap();
    let keys: Value = serde_json::from_str(inline["issuers"][0]["jwks"]["inline"].as_str().unwrap()).unwrap();
    assert_eq!(keys["keys"][0]["kty"], "EC");
    assert!(keys["keys"][0].get("d").is_none());
}

#[test]
fn a_policy_is_checked_without_keytab_and_keys() {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    fs::remove_file(folder.path("http.keytab")).unwrap();
    fs::remove_file(folder.path("made/kek")).unwrap();
    let check = ["policy", "check", "--config", "made/kerbridge.toml"];
    assert_eq!(folder.run(&check).status.code(), Some(0));
    let policy = folder.path("made/policy.toml");
    let text_before = fs::read_to_string(&policy).unwrap();
    fs::write(
        &policy,
        text_before.replace("path_prefix = \"/\"", "path_prefix = \"x\""),
    )
    .unwrap();
    let output = folder.run(&check);
    assert_eq!(output.status.code(), Some(78));
    let complaint = text(&output.stderr);
    assert!(
        complaint.contains("policy.toml: route[0].path_prefix: \"x\" is no path"),
        "{complaint}"
    );
    assert!(
        complaint.contains("policy.toml: route[1].path_prefix: \"x\" is no path"),
        "{complaint}"
    );
}
