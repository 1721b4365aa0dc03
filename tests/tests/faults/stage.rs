//! Starts the one Envoy, with an issuer for each fault of keys and of revocations, a route for each fault of the exchange, and
//! scripts in the places of broker, issuers and services.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kerbridge_tests::faults::{Asked, Fault, ROWS, Row};
use kerbridge_tests::scripted_server::{Incoming, Reply, ScriptedServer};
use kerbridge_tests::shipped::{ISSUER, ShippedYaml};
use kerbridge_tests::token::{LabKey, decode};
use kerbridge_tests::upstream::target;
use kerbridge_tests::wait::wait_until;
use kerbridge_tests::{HarnessError, World};
use kerbridge_wire::exchange::LOGOUT_PATH;
use serde_json::{Value, json};

use crate::answers::{good, minted, wrong};
use crate::{Check, same};

/// Long enough for a busy machine.
pub(crate) const WITHIN: Duration = Duration::from_secs(30);
/// The issuer whose keys and revocations come, until everything is silent.
pub(crate) const GOOD: &str = "https://good.example.net";
/// Nobody listens there.
const NOBODY: u16 = 1;

/// What the scripts have in common.
pub(crate) struct Script {
    /// Signs for every issuer.
    pub(crate) key: LabKey,
    /// What the broker mints ends then; as usual where 0.
    ends: AtomicU64,
    /// The good ones say nothing any more.
    is_silent: AtomicBool,
}

/// A running Envoy, and what it asks.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) script: Arc<Script>,
    /// Keys and revocations.
    sources: ScriptedServer,
    /// What is behind Envoy: its answers begin and do not end.
    pub(crate) service: ScriptedServer,
}

/// The lines of the table that have cells.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    ROWS.iter()
}

/// The issuer whose keys or revocations do not come.
pub(crate) fn issuer(row: &Row) -> String {
    format!("https://{}.{}.example.net", row.fault.name(), row.asked.name())
}

/// Where a request of this line goes.
pub(crate) fn place(row: &Row) -> String {
    format!("{}/{}", row.asked.name(), row.fault.name())
}

impl Script {
    /// What the broker answers: which fault it is to have stands in the name of the route, and in the token of a logout.
    fn broker(&self, call: &Incoming) -> Reply {
        let form = String::from_utf8_lossy(&call.body).into_owned();
        if target(call) != LOGOUT_PATH {
            return self.exchange(&form);
        }
        let token = form.split('&').find_map(|pair| pair.strip_prefix("tokens="));
        let token = token.and_then(decode);
        let fault = token.as_ref().and_then(|token| token.claims["jti"].as_str());
        match fault.and_then(|fault| find(Asked::Logout, fault)) {
            Some(row) => {
                let right = good(Asked::Logout, &self.key, ISSUER);
                wrong(row.fault, &right, &self.key, ISSUER, false)
            }
            None => Reply::status(404, ""),
        }
    }

    fn exchange(&self, form: &str) -> Reply {
        let route = form.split('&').find_map(|pair| pair.strip_prefix("route="));
        let (kind, fault) = route.and_then(|route| route.split_once('_')).unwrap_or_default();
        let for_ticket = kind == "x";
        if fault == "good" {
            if self.is_silent.load(Ordering::SeqCst) {
                return Reply::Never;
            }
            let ends = self.ends.load(Ordering::SeqCst);
            return Reply::Raw(minted(&self.key, for_ticket, |claims| {
                kerbridge_tests::token::with(claims, "exp", json!(ends))
            }));
        }
        let right = minted(&self.key, for_ticket, |claims| claims);
        match find(Asked::Exchange, fault) {
            Some(row) => wrong(row.fault, &right, &self.key, ISSUER, for_ticket),
            None => Reply::status(404, ""),
        }
    }

    fn source(&self, call: &Incoming) -> Reply {
        let path = target(call);
        let path = path.split('?').next().unwrap_or_default().trim_start_matches('/');
        let (asked, fault) = path.split_once('/').unwrap_or_default();
        let Some(asked) = Asked::ALL.into_iter().find(|one| one.name() == asked) else {
            return Reply::status(404, "");
        };
        if fault == "good" {
            if self.is_silent.load(Ordering::SeqCst) {
                return Reply::Never;
            }
            return Reply::Raw(good(asked, &self.key, GOOD));
        }
        if fault == "broker" {
            return Reply::Raw(good(asked, &self.key, ISSUER));
        }
        match find(asked, fault) {
            Some(row) => {
                let issuer = issuer(row);
                wrong(row.fault, &good(asked, &self.key, &issuer), &self.key, &issuer, false)
            }
            None => Reply::status(404, ""),
        }
    }

    /// Says when what is minted from now on ends.
    pub(crate) fn end_at(&self, time: u64) {
        self.ends.store(time, Ordering::SeqCst);
    }

    /// Answers nothing more where all was well.
    pub(crate) fn fall_silent(&self) {
        self.is_silent.store(true, Ordering::SeqCst);
    }
}

fn find(asked: Asked, fault: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.asked == asked && row.fault.name() == fault)
}

/// Begins, and does not end: a chunk, a WebSocket's first frame, a gRPC message.
fn endless(request: &Incoming) -> Reply {
    let head = if request.header("upgrade").is_some() {
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello"
    } else if request.header("content-type") == Some(b"application/grpc") {
        "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n5\r\n\0\0\0\0\0\r\n"
    } else {
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
    };
    Reply::Raw(head.as_bytes().to_vec())
}

fn cluster_of(fault: Fault) -> &'static str {
    if fault == Fault::NoCluster {
        "nowhere"
    } else if fault == Fault::Refused {
        "nobody"
    } else if fault == Fault::NoTls {
        "sources-tls"
    } else {
        "sources"
    }
}

fn issuers(key: &LabKey) -> Vec<Value> {
    let inline = key.key_set().to_string();
    let member = |name: &str, issuer: &str, jwks: Value, feed: Option<Value>| {
        let mut member =
            json!({"issuer": issuer, "name": name, "audiences": {"orders": [], "legacy": []}, "jwks": jwks});
        if let Some(feed) = feed {
            member["feed"] = feed;
        }
        member
    };
    let from = |asked: &str, fault: &str, cluster: &str| json!({"cluster": cluster, "path": format!("/{asked}/{fault}"), "poll": "1s"});
    let with_inline = |mut jwks: Value| {
        jwks["inline"] = json!(inline);
        jwks
    };
    let good = member(
        "good",
        GOOD,
        from("keys", "good", "sources"),
        Some(from("feed", "good", "sources")),
    );
    let broken = rows().filter_map(|row| {
        let (fault, cluster) = (row.fault.name(), cluster_of(row.fault));
        let name = format!("{}-{fault}", row.asked.name());
        let source = from(row.asked.name(), fault, cluster);
        match row.asked {
            Asked::Exchange | Asked::Logout => None,
            Asked::Keys => Some(member(&name, &issuer(row), source, None)),
            Asked::Feed => Some(member(&name, &issuer(row), json!({"inline": inline}), Some(source))),
        }
    });
    let mut broker = member(
        "kerbridge",
        ISSUER,
        with_inline(from("keys", "broker", "sources")),
        None,
    );
    if let Some(broker) = broker.as_object_mut() {
        broker.remove("audiences");
    }
    [broker, good].into_iter().chain(broken).collect()
}

fn routes() -> Vec<Value> {
    let pair = |name: &str, place: &str| {
        let route = |kind: &str, prefix: &str, audience: &str| {
            json!({
                "name": format!("{kind}_{name}"), "host": "localhost", "path_prefix": format!("{prefix}/{place}"),
                "accept": ["negotiate", "bearer", "cookie"], "audience": audience,
            })
        };
        let mut inverse = route("t", "/legacy", "legacy");
        inverse["accept"] = json!(["bearer"]);
        inverse["upstream"] = json!({"kerberos": {"spn": "HTTP/legacy.lab.test@LAB.TEST"}});
        [route("x", "/faults", "orders"), inverse]
    };
    let of_rows = rows().filter(|row| row.asked != Asked::Logout).flat_map(|row| {
        let name = match row.asked {
            Asked::Exchange | Asked::Logout => row.fault.name().to_owned(),
            Asked::Keys | Asked::Feed => format!("{}-{}", row.asked.name(), row.fault.name()),
        };
        pair(&name, &place(row))
    });
    of_rows.chain(pair("good", "stream")).collect()
}

fn cluster(name: &str, port: u16, more: &[&str]) -> Vec<String> {
    let mut lines = vec![
        format!("- name: {name}"),
        "  type: STATIC".to_owned(),
        "  connect_timeout: 1s".to_owned(),
        "  load_assignment:".to_owned(),
        format!("    cluster_name: {name}"),
        "    endpoints:".to_owned(),
        format!(
            "    - lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]"
        ),
    ];
    lines.extend(more.iter().map(|line| (*line).to_owned()));
    lines
}

const TLS: [&str; 3] = [
    "  transport_socket:",
    "    name: envoy.transport_sockets.tls",
    "    typed_config: {\"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext}",
];

fn fit(yaml: &mut ShippedYaml, sources: u16, service: u16) -> Result<(), HarnessError> {
    // A logout is found in the log by its query.
    yaml.replace("%REQ_WITHOUT_QUERY(:PATH)%", "%REQ(:PATH)%")?;
    yaml.insert_below("stat_prefix: https", &["upgrade_configs: [{upgrade_type: websocket}]"])?;
    yaml.replace(
        "route: {cluster: upstream, timeout: 30s}",
        "route: {cluster: endless, timeout: 0s}",
    )?;
    let all = [
        cluster("endless", service, &[]),
        cluster("sources", sources, &[]),
        cluster("sources-tls", sources, &TLS),
        cluster("nobody", NOBODY, &[]),
    ]
    .concat();
    let lines: Vec<&str> = all.iter().map(String::as_str).collect();
    yaml.insert_below("clusters:", &lines)
}

impl Stage {
    /// Starts it, and waits until everything that goes wrong has been asked for at least once.
    pub(crate) fn start() -> Self {
        let script = Arc::new(Script {
            key: LabKey::generate().unwrap(),
            ends: AtomicU64::new(0),
            is_silent: AtomicBool::new(false),
        });
        let answers = Arc::clone(&script);
        let sources = ScriptedServer::tcp(move |_number, call| answers.source(call)).unwrap();
        let service = ScriptedServer::tcp(|_number, request| endless(request)).unwrap();
        let broker = Arc::clone(&script);
        let (of_sources, of_service) = (sources.port(), service.port());
        let configured = Arc::clone(&script);
        let world = World::builder()
            .broker_stopped()
            .intercept(move |call| Some(broker.broker(call)))
            .legacy_in_clear(service.port())
            .filter(move |filter| {
                filter["issuers"] = json!(issuers(&configured.key));
                filter["routes"] = json!(routes());
            })
            .yaml(move |yaml| fit(yaml, of_sources, of_service))
            .start()
            .unwrap();
        let stage = Self {
            world,
            script,
            sources,
            service,
        };
        stage.warm_up();
        wait_until("a question for all that goes wrong", WITHIN, || {
            let asked: Vec<String> = stage.sources.requests().iter().map(target).collect();
            rows()
                .filter(|row| !row.asked.is_a_call_to_the_broker() && cluster_of(row.fault) == "sources")
                .all(|row| {
                    asked
                        .iter()
                        .any(|target| target.starts_with(&format!("/{}", place(row))))
                })
        })
        .unwrap();
        stage
    }

    /// The first request of a worker waits for revocations, of which some never come here.
    fn warm_up(&self) {
        let ask = || self.world.curl("/faults/stream").bearer("no.to.ken").send().unwrap();
        assert_eq!(ask().status, 401, "what shows a credential waits, a bad one too");
        wait_until("the good issuer's revocations", WITHIN, || {
            let taken = "wasmcustom.kerbridge.revocation_tables_taken.issuer.good";
            self.script.is_silent.load(Ordering::SeqCst) || self.world.stat(taken).is_some_and(|taken| taken > 0)
        })
        .unwrap();
    }

    /// Starts Envoy anew, with something wrong about the broker's cluster.
    pub(crate) fn break_cluster(&mut self, fault: Fault) {
        let socket = self.world.relay().unwrap().socket().display().to_string();
        let edit = |yaml: &mut ShippedYaml| -> Result<(), HarnessError> {
            let (right, nobody) = (
                format!("{{pipe: {{path: {socket}}}}}"),
                format!("{{pipe: {{path: {socket}.nobody}}}}"),
            );
            if fault == Fault::Refused {
                yaml.replace(&right, &nobody)?;
            } else if yaml.text().contains(&nobody) {
                yaml.replace(&nobody, &right)?;
            }
            if fault == Fault::NoTls {
                yaml.insert_below("- name: kerbridge_broker", &TLS)?;
            }
            let mut filter: Value = serde_json::from_str(&yaml.filter_configuration()?).unwrap();
            let name = if fault == Fault::NoCluster {
                "nowhere"
            } else {
                "kerbridge_broker"
            };
            filter["broker"]["cluster"] = json!(name);
            yaml.set_filter_configuration(&filter.to_string())
        };
        self.world.restart_envoy(edit).unwrap();
        self.warm_up();
    }

    /// How often a reason was counted, for requests, for logouts and for attempts at a Kerberos service.
    pub(crate) fn counted(&self, reason: &str) -> u64 {
        let stats = self.world.stats("wasmcustom.kerbridge");
        let is_it = |line: &&str| {
            ["requests", "tickets", "logouts"]
                .iter()
                .any(|family| line.starts_with(&format!("wasmcustom.kerbridge.{family}.reason.{reason}.issuer.")))
        };
        let values = stats
            .lines()
            .filter(is_it)
            .filter_map(|line| line.rsplit_once(": ")?.1.parse::<u64>().ok());
        values.sum()
    }

    /// Whether the module never had to be loaded anew.
    pub(crate) fn never_trapped(&self) -> Check {
        same("reloads", &self.world.reloads(), &Some(0))
    }
}
