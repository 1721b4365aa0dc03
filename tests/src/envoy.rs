//! Runs a real Envoy with a given configuration, and asks its admin port what it did.
//!
//! The configuration is a bootstrap without `admin`: the fixture adds one on a port of Envoy's choosing. Listeners bind
//! port 0 and are found by name. Hot restart is off, so that any number of Envoys run side by side and a killed one
//! leaves no shared memory behind.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::canary;
use crate::error::HarnessError;
use crate::http::{self, HttpError, Request, Response};
use crate::process::{OwnedProcess, Spawn, find_program};
use crate::shipped::repository;
use crate::wait::wait_until;

/// A wasm module is compiled for each thread before Envoy is ready; two busy cores can take long.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Admin pages that show what requests brought about.
const PAGES: [&str; 4] = ["/stats", "/stats/prometheus", "/clusters", "/config_dump"];

const ADMIN: &str = "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}";

/// How Envoy is run.
#[derive(Clone, Debug)]
pub struct EnvoyOptions {
    /// Worker threads.
    pub concurrency: u32,
    /// Envoy's `--log-level`.
    pub log_level: String,
    /// More arguments.
    pub args: Vec<OsString>,
    /// Variables beside the test's own.
    pub env: Vec<(OsString, OsString)>,
    /// Where configuration and log are written; a temporary folder unless given.
    pub folder: Option<PathBuf>,
}

impl Default for EnvoyOptions {
    /// One worker, log level `info`, a temporary folder.
    fn default() -> Self {
        Self {
            concurrency: 1,
            log_level: "info".to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            folder: None,
        }
    }
}

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    // Dropped in this order: the process ends before its folder goes.
    process: OwnedProcess,
    admin_port: u16,
    folder: Folder,
}

#[derive(Debug)]
enum Folder {
    Own(TempDir),
    Given(PathBuf),
}

impl Folder {
    fn of(options: &EnvoyOptions) -> Result<Self, HarnessError> {
        match &options.folder {
            Some(path) => Ok(Self::Given(path.clone())),
            None => tempfile::tempdir()
                .map(Self::Own)
                .map_err(|source| HarnessError::io("create a folder for Envoy", source)),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Own(own) => own.path(),
            Self::Given(path) => path,
        }
    }
}

impl Envoy {
    /// Starts Envoy with this bootstrap (YAML) and waits until it is live: listeners bound, plugins configured.
    ///
    /// # Errors
    ///
    /// [`HarnessError::ProgramMissing`], [`HarnessError::Exited`] when Envoy refused the configuration, or
    /// [`HarnessError::TimedOut`]; the last two with the end of its log.
    pub fn start(yaml: &str, options: &EnvoyOptions) -> Result<Self, HarnessError> {
        let folder = Folder::of(options)?;
        let admin_file = folder.path().join("admin-address");
        if admin_file.exists() {
            std::fs::remove_file(&admin_file).map_err(|source| HarnessError::io("remove an old admin file", source))?;
        }
        let spawn = command(yaml, options, folder.path())?
            .args(["--config-yaml", ADMIN, "--admin-address-path"])
            .arg(&admin_file)
            .args(["--concurrency", &options.concurrency.to_string()]);
        let mut process = OwnedProcess::start(spawn)?;
        let mut admin_port = 0;
        process.wait_alive_until("a live Envoy", READY_WITHIN, |_| {
            let port = std::fs::read_to_string(&admin_file)
                .ok()
                .and_then(|text| text.trim().rsplit(':').next()?.parse().ok());
            admin_port = port.unwrap_or(0);
            port.is_some_and(|port| http::get(port, "/ready").is_ok_and(|ready| ready.text().trim() == "LIVE"))
        })?;
        Ok(Self {
            process,
            admin_port,
            folder,
        })
    }

    /// Ends it politely. Neither what it printed nor what its admin pages show may hold a credential.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Leaked`], or [`HarnessError::TimedOut`] when it does not end.
    pub fn stop(&mut self) -> Result<(), HarnessError> {
        self.search_pages()?;
        self.process.terminate().map(drop)
    }

    fn search_pages(&mut self) -> Result<(), HarnessError> {
        if self.process.try_wait()?.is_some() {
            return Ok(());
        }
        for page in PAGES {
            canary::search(&format!("Envoy's {page}"), &self.admin_get(page)?.body)?;
        }
        Ok(())
    }

    /// The port of the admin interface on 127.0.0.1.
    #[must_use]
    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// The folder that holds its configuration and log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The process, to signal it or to wait for words in its log.
    pub fn process(&mut self) -> &mut OwnedProcess {
        &mut self.process
    }

    /// Everything that Envoy has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// `GET` on the admin interface.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Http`].
    pub fn admin_get(&self, target: &str) -> Result<Response, HarnessError> {
        self.admin("GET", target)
    }

    /// `POST` on the admin interface, as `/drain_listeners` and `/quitquitquit` want it.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Http`].
    pub fn admin_post(&self, target: &str) -> Result<Response, HarnessError> {
        self.admin("POST", target)
    }

    fn admin(&self, method: &str, target: &str) -> Result<Response, HarnessError> {
        http::send(
            self.admin_port,
            &Request::new(method, target).header("content-length", "0"),
        )
        .map_err(|source| HarnessError::Http {
            what: format!("{method} {target} of Envoy's admin port"),
            source,
        })
    }

    /// The port to which a listener is bound.
    ///
    /// # Errors
    ///
    /// [`HarnessError::UnexpectedAnswer`] when there is no bound listener of that name.
    pub fn listener_port(&self, name: &str) -> Result<u16, HarnessError> {
        let answer = self.admin_get("/listeners?format=json")?;
        let port = serde_json::from_slice::<Value>(&answer.body)
            .ok()
            .and_then(|listeners| {
                let statuses = listeners.get("listener_statuses")?.as_array()?;
                let ours = statuses
                    .iter()
                    .find(|status| status.get("name").and_then(Value::as_str) == Some(name))?;
                ours.pointer("/local_address/socket_address/port_value")?.as_u64()
            });
        port.and_then(|port| u16::try_from(port).ok())
            .ok_or_else(|| HarnessError::UnexpectedAnswer {
                what: format!("the port of listener {name}"),
                answer: answer.text(),
            })
    }

    /// One request to a listener, on a connection of its own.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Http`], or [`HarnessError::UnexpectedAnswer`] when there is no such listener.
    pub fn send(&self, listener: &str, request: &Request) -> Result<Response, HarnessError> {
        http::send(self.listener_port(listener)?, request).map_err(|source| HarnessError::Http {
            what: format!("a request to listener {listener}"),
            source,
        })
    }

    /// The value of a counter or gauge, or nothing where Envoy has no such statistic.
    #[must_use]
    pub fn stat(&self, name: &str) -> Option<u64> {
        let stats = self.admin_get("/stats").ok()?.text();
        stats
            .lines()
            .map(of_the_module)
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.trim().parse().ok())
    }

    /// Waits until a statistic has at least this value.
    ///
    /// # Errors
    ///
    /// [`HarnessError::TimedOut`].
    pub fn wait_for_stat(&self, name: &str, at_least: u64, within: Duration) -> Result<(), HarnessError> {
        wait_until(&format!("{name} of at least {at_least}"), within, || {
            self.stat(name).is_some_and(|value| value >= at_least)
        })
    }

    /// The statistics whose names match, one in a line; nothing where Envoy does not answer.
    #[must_use]
    pub fn stats(&self, word: &str) -> String {
        let page = self.admin_get(&format!("/stats?filter={word}"));
        let text = page.map(|page| page.text()).unwrap_or_default();
        text.lines()
            .map(of_the_module)
            .fold(String::new(), |all, line| all + line + "\n")
    }

    /// The version, as `/server_info` gives it: `1.40.0` for instance.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Http`] or [`HarnessError::UnexpectedAnswer`].
    pub fn version(&self) -> Result<String, HarnessError> {
        let answer = self.admin_get("/server_info")?;
        serde_json::from_slice::<Value>(&answer.body)
            .ok()
            .and_then(|info| info.get("version")?.as_str()?.split('/').nth(1).map(str::to_owned))
            .ok_or_else(|| HarnessError::UnexpectedAnswer {
                what: "Envoy's version".to_owned(),
                answer: answer.text(),
            })
    }
}

/// Asks Envoy to check a bootstrap (YAML), plugins included, without serving.
///
/// # Errors
///
/// [`HarnessError::Exited`] with the log when Envoy refuses it.
pub fn validate(yaml: &str) -> Result<(), HarnessError> {
    let options = EnvoyOptions::default();
    let folder = Folder::of(&options)?;
    let mut process = OwnedProcess::start(command(yaml, &options, folder.path())?.args(["--mode", "validate"]))?;
    let status = process.wait_exit(READY_WITHIN)?;
    if status.success() {
        Ok(())
    } else {
        Err(HarnessError::Exited {
            name: process.name().to_owned(),
            status,
            log: process.log_tail(),
        })
    }
}

fn command(yaml: &str, options: &EnvoyOptions, folder: &Path) -> Result<Spawn, HarnessError> {
    let config = folder.join("envoy.yaml");
    std::fs::write(&config, yaml).map_err(|source| HarnessError::io("write Envoy's configuration", source))?;
    Ok(Spawn::new(find_envoy()?, folder)
        .name("envoy")
        .watched()
        .arg("--config-path")
        .arg(&config)
        .args(["--disable-hot-restart", "--log-level", &options.log_level])
        .args(&options.args)
        .envs(options.env.iter().map(|(name, value)| (name, value))))
}

/// Every Envoy that a test leaves running is searched, too.
impl Drop for Envoy {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let searched = self.search_pages();
            assert!(searched.is_ok(), "{searched:?}");
        }
    }
}

/// The envoy to run: `KERBRIDGE_ENVOY`, else the one on PATH, else the one that `make setup` put into the workspace.
///
/// # Errors
///
/// [`HarnessError::ProgramMissing`], naming `make setup`.
pub fn find_envoy() -> Result<PathBuf, HarnessError> {
    if let Some(given) = std::env::var_os("KERBRIDGE_ENVOY") {
        return find_program(given);
    }
    find_program("envoy")
        .or_else(|_| find_program(repository().join("target/tools/envoy/bin/envoy")))
        .map_err(|_| HarnessError::ProgramMissing {
            program: "envoy".to_owned(),
            remedy: "run `make setup`, put one on PATH, or name one in KERBRIDGE_ENVOY",
        })
}

/// Whether the Envoy that is used has this release or a later one.
///
/// # Errors
///
/// As [`find_envoy`], or [`HarnessError::UnexpectedAnswer`] where it does not say its version.
pub fn is_at_least(major: u32, minor: u32) -> Result<bool, HarnessError> {
    let said = std::process::Command::new(find_envoy()?)
        .arg("--version")
        .output()
        .map_err(|source| HarnessError::io("ask Envoy for its version", source))?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    // "version: <commit>/1.40.0/Clean/RELEASE/BoringSSL"
    let number = said
        .split('/')
        .find(|part| part.starts_with(|first: char| first.is_ascii_digit()) && part.contains('.'));
    let mut parts = number
        .into_iter()
        .flat_map(|number| number.split('.'))
        .map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(first)), Some(Ok(second))) => Ok((first, second) >= (major, minor)),
        (_, _) => Err(HarnessError::UnexpectedAnswer {
            what: "Envoy's version".to_owned(),
            answer: said,
        }),
    }
}

/// Whether a failed request never reached anybody: the listener refused the connection.
#[must_use]
pub fn refused(error: &HttpError) -> bool {
    matches!(error, HttpError::Io(source) if source.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// A line of `/stats` with the name that Envoy 1.39 and later give it: earlier ones keep a module's own statistics under the cluster for
/// which it was loaded first, as `cluster.legacy.wasmcustom.…`.
fn of_the_module(line: &str) -> &str {
    let own = line.strip_prefix("cluster.").and_then(|rest| rest.find("wasmcustom."));
    own.and_then(|at| line.get("cluster.".len().saturating_add(at)..))
        .unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECHO: &str = r#"
static_resources:
  listeners:
  - name: front
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{match: {prefix: /}, direct_response: {status: 418, body: {inline_string: tea}}}]
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
"#;

    #[test]
    fn two_envoys_serve_side_by_side_and_report_their_ports_and_statistics() {
        let first = Envoy::start(ECHO, &EnvoyOptions::default()).unwrap();
        let second = Envoy::start(ECHO, &EnvoyOptions::default()).unwrap();
        assert_ne!(
            first.listener_port("front").unwrap(),
            second.listener_port("front").unwrap()
        );
        let response = first
            .send("front", &Request::get("/x").header("x-bytes", b"\xff"))
            .unwrap();
        assert_eq!((response.status, response.text().as_str()), (418, "tea"));
        first
            .wait_for_stat("http.front.downstream_rq_4xx", 1, Duration::from_secs(5))
            .unwrap();
        assert_eq!(second.stat("http.front.downstream_rq_4xx"), Some(0));
        assert_eq!(second.stat("no.such.thing"), None);
        assert!(first.version().unwrap().starts_with("1."));
        assert!(first.listener_port("back").is_err());
    }

    #[test]
    fn a_refused_configuration_is_reported_with_envoys_words() {
        validate(ECHO).unwrap();
        let broken = ECHO.replace("stat_prefix: front", "no_such_field: 1");
        let error = validate(&broken).unwrap_err().to_string();
        assert!(error.contains("no_such_field"), "{error}");
        let error = Envoy::start(&broken, &EnvoyOptions::default()).unwrap_err().to_string();
        assert!(error.contains("no_such_field"), "{error}");
    }
}
