//! Starts everything that one scenario needs: KDC, users, broker, Envoy as it ships, and a service behind it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::access_log;
use crate::apache::Apache;
use crate::broker::Broker;
use crate::canary;
use crate::certificates::Certificates;
use crate::curl::{Answer, Curl};
use crate::envoy::Envoy;
use crate::error::HarnessError;
use crate::http::{Connection, Request, Response};
use crate::http2;
use crate::kdc::{Ccache, Kdc};
use crate::relay::Relay;
use crate::shipped::ShippedYaml;
use crate::tls::{self, TlsStream};
use crate::token::LabKey;
use crate::upstream::Upstream;
use crate::wait::wait_for;

mod builder;
mod clients;
mod domain;

pub use builder::WorldBuilder;
pub use clients::lab_program;

/// The lab's realm.
pub const REALM: &str = "LAB.TEST";
/// The service that clients ask tickets for: curl makes it of the URL's host.
pub const SERVICE: &str = "HTTP/localhost@LAB.TEST";
/// The issuer of a world with [`WorldBuilder::lab_issuer`], whose key the test holds.
pub const LAB_ISSUER: &str = "https://lab.example.com";

/// The access log is written within milliseconds; this is for a machine that is busy.
const LOG_WITHIN: Duration = Duration::from_secs(10);

/// A running lab. Its parts end with it.
pub struct World {
    // Dropped in this order: those who call before those who are called, the folder last.
    envoy: Envoy,
    yaml: ShippedYaml,
    concurrency: u32,
    relay: Option<Relay>,
    broker: Broker,
    upstream: Upstream,
    apache: Option<Apache>,
    kdc: Kdc,
    certificates: Certificates,
    tickets: BTreeMap<String, Ccache>,
    lab_key: Option<LabKey>,
    port: u16,
    folder: TempDir,
}

/// How a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The word in the body, for the client.
    pub error: String,
    /// The reason in Envoy's response-code details, for the operator.
    pub reason: String,
}

impl World {
    /// The lab as it ships: users `alice` and `bob`, the policy of `envoy/policy.toml` for host `localhost`.
    ///
    /// # Errors
    ///
    /// Every [`HarnessError`].
    pub fn start() -> Result<Self, HarnessError> {
        Self::builder().start()
    }

    /// A lab to be varied.
    #[must_use]
    pub fn builder() -> WorldBuilder {
        WorldBuilder::default()
    }

    /// The KDC.
    #[must_use]
    pub fn kdc(&self) -> &Kdc {
        &self.kdc
    }

    /// Ends the KDC: tickets that were issued stay good, new ones are not to be had.
    ///
    /// # Errors
    ///
    /// As [`Kdc::stop`].
    pub fn stop_kdc(&mut self) -> Result<(), HarnessError> {
        self.kdc.stop()
    }

    /// The broker, to stop, freeze and start it.
    pub fn broker(&mut self) -> &mut Broker {
        &mut self.broker
    }

    /// Envoy.
    pub fn envoy(&mut self) -> &mut Envoy {
        &mut self.envoy
    }

    /// Ends Envoy and starts it again with a changed configuration: every worker begins without keys. The port may be
    /// another one.
    ///
    /// # Errors
    ///
    /// Every [`HarnessError`].
    pub fn restart_envoy(
        &mut self,
        edit: impl FnOnce(&mut ShippedYaml) -> Result<(), HarnessError>,
    ) -> Result<(), HarnessError> {
        edit(&mut self.yaml)?;
        self.envoy.stop()?;
        self.envoy = builder::start_envoy(&self.yaml, self.concurrency, self.folder.path())?;
        self.port = self.envoy.listener_port("https")?;
        Ok(())
    }

    /// Starts the broker anew with its mesh on this port of 127.0.0.1 over TLS, for clients of this name. At the old socket it is still
    /// asked whether it is ready.
    ///
    /// # Errors
    ///
    /// As [`Broker::start`], and [`HarnessError::UnexpectedAnswer`] where its configuration has no mesh.
    pub fn listen_over_tls(&mut self, port: u16, client: &str) -> Result<(), HarnessError> {
        let Certificates {
            certificate,
            private_key,
            authority,
            ..
        } = self.certificates.clone();
        let broker = &mut self.broker;
        broker.stop()?;
        let path = broker.config();
        let failed = |source| HarnessError::io(format!("move the mesh in {}", path.display()), source);
        let config = std::fs::read_to_string(&path).map_err(failed)?;
        let parts = config
            .split_once("[listen.mesh]\n")
            .and_then(|(before, rest)| Some((before, rest.split_once("[kerberos]")?.1)));
        let Some((before, after)) = parts else {
            return Err(HarnessError::UnexpectedAnswer {
                what: "[listen.mesh] and [kerberos] in kerbridge.toml".to_owned(),
                answer: config,
            });
        };
        let mesh = format!(
            "[listen.mesh]\ntcp = \"127.0.0.1:{port}\"\ncertificate = {certificate:?}\nprivate_key = {private_key:?}\n\
             client_ca = {authority:?}\nclient_names = [{client:?}]\n[listen.observe]\nunix = {:?}\n[kerberos]",
            broker.socket(),
        );
        std::fs::write(&path, format!("{before}{mesh}{after}")).map_err(failed)?;
        broker.start()
    }

    /// The echo service.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// The service that takes Kerberos only, in a world that is [`WorldBuilder::delegating`].
    #[must_use]
    pub fn apache(&self) -> Option<&Apache> {
        self.apache.as_ref()
    }

    /// The recorder between Envoy and the broker, where there is one.
    #[must_use]
    pub fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    /// The certificate files.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The folder of broker, Envoy and certificates.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The port of the https listener on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The key of [`LAB_ISSUER`], where the world has it.
    #[must_use]
    pub fn lab_key(&self) -> Option<&LabKey> {
        self.lab_key.as_ref()
    }

    /// `https://localhost:PORT` and the path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// A request without credentials.
    #[must_use]
    pub fn curl(&self, path: &str) -> Curl {
        Curl::new(self.url(path)).trusting(&self.certificates.authority)
    }

    /// A request with the user's ticket.
    #[must_use]
    pub fn curl_as(&self, user: &str, path: &str) -> Curl {
        self.curl(path).negotiate(self.client(user))
    }

    /// A TLS connection to Envoy, for bytes of one's own.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Tls`] or [`HarnessError::Io`].
    pub fn connect(&self) -> Result<Connection<TlsStream>, HarnessError> {
        tls::connect(self.port, &self.certificates.authority)
    }

    /// One request as bytes, on a connection of its own.
    ///
    /// # Errors
    ///
    /// Those of [`World::connect`], or [`HarnessError::Http`].
    pub fn send(&self, request: &Request) -> Result<Response, HarnessError> {
        tls::send(self.port, &self.certificates.authority, request)
    }

    /// One `GET` over HTTP/2 with header lines of any bytes, on a connection of its own.
    ///
    /// # Errors
    ///
    /// Those of [`World::connect`], or [`HarnessError::Http`].
    pub fn get_http2(&self, path: &str, headers: &[(&[u8], &[u8])]) -> Result<http2::Outcome, HarnessError> {
        let mut stream = tls::open_http2(self.port, &self.certificates.authority)?;
        http2::get(&mut stream, path, headers).map_err(|source| HarnessError::Http {
            what: format!("GET {path} over HTTP/2"),
            source,
        })
    }

    /// Everything that Envoy has printed so far, its access log included.
    #[must_use]
    pub fn envoy_log(&self) -> String {
        self.envoy.log()
    }

    /// A statistic of Envoy's, see [`Envoy::stat`].
    #[must_use]
    pub fn stat(&self, name: &str) -> Option<u64> {
        self.envoy.stat(name)
    }

    /// Statistics of Envoy's by a word of their names, one in a line; nothing where Envoy does not answer.
    #[must_use]
    pub fn stats(&self, word: &str) -> String {
        self.envoy.stats(word)
    }

    /// How often Envoy had to replace a VM of the filter, or could not: 0 where the module never trapped.
    #[must_use]
    pub fn reloads(&self) -> Option<u64> {
        let counters = ["vm_reload_backoff", "vm_reload_success", "vm_reload_failure"];
        let values = counters.map(|counter| self.envoy.stat(&format!("wasm.kerbridge.{counter}")));
        values.into_iter().sum()
    }

    /// Envoy's access-log line about the request with this identifier.
    ///
    /// # Errors
    ///
    /// [`HarnessError::TimedOut`].
    pub fn access_log(&self, request_id: &str) -> Result<Value, HarnessError> {
        wait_for(
            &format!("an access-log line of request {request_id}"),
            LOG_WITHIN,
            || {
                self.access_lines()
                    .into_iter()
                    .find(|line| line["request_id"] == request_id)
            },
        )
    }

    /// All lines of Envoy's access log so far.
    #[must_use]
    pub fn access_lines(&self) -> Vec<Value> {
        access_log::lines(&self.envoy.log())
    }

    /// How the filter refused, from the answer's body and Envoy's access log together.
    ///
    /// # Errors
    ///
    /// [`HarnessError::UnexpectedAnswer`] where the answer is not the filter's.
    pub fn refusal(&self, status: u16, body: &[u8]) -> Result<Refusal, HarnessError> {
        canary::search(&format!("the body of a {status}"), body)?;
        let refused: Value = serde_json::from_slice(body).unwrap_or_default();
        let member = |name: &str| refused.get(name).and_then(Value::as_str).map(str::to_owned);
        let (Some(error), Some(request_id)) = (member("error"), member("request_id")) else {
            return Err(HarnessError::UnexpectedAnswer {
                what: "a request that the filter should refuse".to_owned(),
                answer: format!("{status} {}", String::from_utf8_lossy(body)),
            });
        };
        let line = self.access_log(&request_id)?;
        let details = line.get("details").and_then(Value::as_str).unwrap_or_default();
        Ok(Refusal {
            status,
            error,
            reason: details.strip_prefix("kerbridge_").unwrap_or(details).to_owned(),
        })
    }

    /// The same for an answer to curl, as status and reason.
    ///
    /// # Errors
    ///
    /// As [`World::refusal`].
    pub fn reason(&self, answer: &Answer) -> Result<(u16, String), HarnessError> {
        self.refusal(answer.status, &answer.body)
            .map(|refusal| (refusal.status, refusal.reason))
    }
}
