//! Keeps a lab in the background: starts it, says how to use it, and takes it down again.
//!
//! The lab is a process of its own. its `state.json` says where it is; whether it still is there is asked on its
//! control socket, so that a file left behind by a crash misleads nobody.

use std::fmt::Write as _;
use std::fs::{File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use kerbridge_tests::HarnessError;
use kerbridge_tests::apache::Apache;
use kerbridge_tests::broker::find_kerbridge;
use kerbridge_tests::engine::own::{self, Choice};
use kerbridge_tests::kdc::Ccache;
use kerbridge_tests::wait::{Deadline, POLL};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use crate::run::Parts;
use crate::scratch::{self, Scratch};

/// A busy machine may take long to start everything.
const UP_WITHIN: Duration = Duration::from_secs(120);
/// Whoever connects and says nothing is not waited for longer.
const ASK_WITHIN: Duration = Duration::from_secs(5);
const DOWN_WITHIN: Duration = Duration::from_secs(60);
/// The port that is easy to remember, where it is free.
const PORT: u16 = 8443;

/// A lab, running or not, by the folder of its state and log.
pub(crate) struct Lab {
    folder: PathBuf,
}

impl Lab {
    /// The lab that is kept in this folder.
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn state_file(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    fn state(&self) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.state_file()).ok()?).ok()
    }

    /// What the running lab wrote about itself, if one is running.
    fn running(&self) -> Option<Value> {
        let state = self.state()?;
        UnixStream::connect(state.get("control")?.as_str()?).ok()?;
        Some(state)
    }

    /// Starts the lab, or says that it is up already.
    pub(crate) fn up(&self, parts: &Parts) -> Result<ExitCode, HarnessError> {
        if let Some(state) = self.running() {
            return say(&format!("The lab is up already.\n{}", usage(&state)));
        }
        std::fs::create_dir_all(&self.folder).map_err(|source| HarnessError::io("create the lab's folder", source))?;
        self.clear();
        let path = self.folder.join("lab.log");
        let failed = |source| HarnessError::io("start the lab in the background", source);
        let log = File::create(&path).map_err(failed)?;
        let second = log.try_clone().map_err(failed)?;
        let program = std::env::current_exe().map_err(failed)?;
        let mut child = Command::new(program)
            .args(["hold", "--state"])
            .arg(&self.folder)
            .args(parts.arguments())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(second)
            .spawn()
            .map_err(failed)?;
        let deadline = Deadline::after(UP_WITHIN);
        loop {
            if let Some(state) = self.running() {
                return say(&format!("The lab is up.\n{}", usage(&state)));
            }
            let ended = child.try_wait().map_err(failed)?;
            let log = || std::fs::read_to_string(&path).unwrap_or_default().trim_end().to_owned();
            if let Some(status) = ended {
                return Err(HarnessError::Exited {
                    name: "the lab".to_owned(),
                    status,
                    log: log(),
                });
            }
            if deadline.passed() {
                child.kill().map_err(failed)?;
                return Err(HarnessError::TimedOut {
                    what: "a running lab".to_owned(),
                    within: UP_WITHIN,
                    log: log(),
                });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Stops the lab; one that is not running is left as it is.
    pub(crate) fn down(&self) -> Result<ExitCode, HarnessError> {
        let Some(control) = self
            .running()
            .and_then(|state| Some(state.get("control")?.as_str()?.to_owned()))
        else {
            self.clear();
            return say("The lab is not running.");
        };
        let failed = |source| HarnessError::io("stop the lab", source);
        let mut stream = UnixStream::connect(control).map_err(failed)?;
        stream.set_read_timeout(Some(DOWN_WITHIN)).map_err(failed)?;
        stream.write_all(b"stop\n").map_err(failed)?;
        // The lab closes the connection when everything is stopped.
        stream.read_to_end(&mut Vec::new()).map_err(failed)?;
        say("The lab is stopped.")
    }

    /// Removes what a lab left that ended without being taken down: its processes died with it, its folder did not.
    fn clear(&self) {
        let state = self.state();
        let left = state.as_ref().and_then(|state| state.get("folder")?.as_str());
        if let Some(left) = left {
            scratch::remove_left(Path::new(left));
        }
        std::fs::remove_file(self.state_file()).unwrap_or(());
    }

    /// Is the lab: starts everything, waits until it is told to stop, and stops everything.
    pub(crate) fn hold(&self, choice: Choice) -> Result<ExitCode, HarnessError> {
        let failed = |source| HarnessError::io("hold the lab", source);
        // A session of its own: the terminal that started it may close. Where it leads one already, that is as well.
        rustix::process::setsid().map(drop).unwrap_or(());
        let lock = File::create(self.folder.join("lock")).map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|source| failed(source.into()))?;

        // A stranger on the port is no reason to fail, and no reason to wait.
        let port = std::net::TcpListener::bind(("127.0.0.1", PORT)).map_or(0, |_free| PORT);
        let scratch = Scratch::new()?;
        let mut parts = own::Lab::start_at(choice, port)?;
        let control = parts.world().folder().join("control.sock");
        let listener = UnixListener::bind(&control).map_err(failed)?;
        let fresh = self.folder.join("state.json.new");
        let state = describe(&mut parts, &control, scratch.path())?;
        std::fs::write(&fresh, state.to_string())
            .and_then(|()| std::fs::set_permissions(&fresh, Permissions::from_mode(0o600)))
            .and_then(|()| std::fs::rename(&fresh, self.state_file()))
            .map_err(failed)?;
        loop {
            let (mut stream, _) = listener.accept().map_err(failed)?;
            stream.set_read_timeout(Some(ASK_WITHIN)).map_err(failed)?;
            let mut word = [0_u8; 5];
            // Whoever only asks whether the lab is there says nothing.
            if stream.read_exact(&mut word).is_ok() && &word == b"stop\n" {
                drop(parts);
                drop(scratch);
                std::fs::remove_file(self.state_file()).map_err(failed)?;
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

fn describe(parts: &mut own::Lab, control: &Path, folder: &Path) -> Result<Value, HarnessError> {
    let subject = parts.principal("alice");
    let world = parts.world_mut();
    let cache = |ticket: &Ccache| format!("FILE:{}", ticket.path().display());
    Ok(json!({
        "control": control,
        "subject": subject,
        "folder": folder,
        "url": world.url(""),
        "service": format!("http://127.0.0.1:{}", world.upstream().port()),
        "apache": world.apache().map(Apache::https),
        "config": world.broker().config(),
        "kerbridge": find_kerbridge()?,
        "admin": format!("http://127.0.0.1:{}", world.envoy().admin_port()),
        "broker": world.broker().socket(),
        "ca": world.certificates().authority,
        "krb5_config": world.kdc().krb5_config(),
        "alice": cache(world.ticket("alice")?),
        "bob": cache(world.ticket("bob")?),
        "logs": world.folder(),
    }))
}

/// How to use the lab.
fn usage(state: &Value) -> String {
    let value = |name: &str| state.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut text = String::from("\n");
    for (name, line) in [
        (
            "https",
            format!("{}  (Envoy with envoy/envoy.yaml and envoy/policy.toml)", value("url")),
        ),
        (
            "service",
            format!("{}  (behind Envoy; echoes what it receives)", value("service")),
        ),
        (
            "Apache",
            format!("{}  (behind Envoy at /legacy; takes Kerberos only)", value("apache")),
        ),
        ("Envoy admin", value("admin").to_owned()),
        ("broker", format!("unix:{}", value("broker"))),
        ("logs", format!("{}/*.log", value("logs"))),
    ] {
        writeln!(text, "  {name:<13}{line}").unwrap_or(());
    }
    let with_token = |place: &str| format!("  curl -i --cacert $CA -H \"Authorization: Bearer $TOKEN\" {place}");
    let token = |place: &str| {
        format!(
            "  TOKEN=$(curl -sSi --cacert $CA --negotiate -u : {place} | \
             sed -n 's/^x-kerbridge-token: //p' | tr -d '\\r')"
        )
    };
    let lines = [
        String::new(),
        "For this shell, as alice; the lines below and those of make demo use it:".to_owned(),
        String::new(),
        format!("  export KRB5_CONFIG={}", value("krb5_config")),
        format!("  export KRB5CCNAME={}", value("alice")),
        format!("  CA={} URL={} APACHE={}", value("ca"), value("url"), value("apache")),
        String::new(),
        "With her ticket:".to_owned(),
        String::new(),
        "  curl -i --cacert $CA --negotiate -u : $URL/orders/1".to_owned(),
        String::new(),
        "With the token alone that comes in x-kerbridge-token:".to_owned(),
        String::new(),
        token("$URL/orders/1"),
        with_token("$URL/orders/1"),
        String::new(),
        "With a token alone to Apache, which takes Kerberos only: through Envoy, then straight, which it refuses:"
            .to_owned(),
        String::new(),
        token("$URL/legacy/1"),
        with_token("$URL/legacy/1"),
        with_token("$APACHE/legacy/1"),
        String::new(),
        "To take back what alice has; she may come again with her ticket:".to_owned(),
        String::new(),
        format!(
            "  {} revoke --config {} --subject {} --before now",
            value("kerbridge"),
            value("config"),
            value("subject")
        ),
        String::new(),
        "As bob, who may not go to Apache:".to_owned(),
        String::new(),
        format!("  export KRB5CCNAME={}", value("bob")),
        String::new(),
        "To stop: make lab-down".to_owned(),
    ];
    text + &lines.join("\n")
}

fn say(text: &str) -> Result<ExitCode, HarnessError> {
    writeln!(std::io::stdout(), "{text}")
        .map(|()| ExitCode::SUCCESS)
        .map_err(|source| HarnessError::io("write to standard output", source))
}
