//! A service that speaks Kerberos only, behind the filter: what reaches it, what comes back, and what happens when no ticket is
//! to be had. The broker's half is a script here, so that every answer of it can be tried; each ticket is another one.

mod attempts;
mod challenges;
mod crowd;
mod held;
mod misled;
mod refusals;
mod traps;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use kerbridge_tests::http::Request;
use kerbridge_tests::scripted_server::{Incoming, Reply, ScriptedServer};
use kerbridge_tests::shipped::ShippedYaml;
use kerbridge_tests::token::claims;
use kerbridge_tests::upstream::target;
use kerbridge_tests::wait::wait_until;
use kerbridge_tests::world::{LAB_ISSUER, WorldBuilder};
use kerbridge_tests::{HarnessError, World};
use serde_json::{Value, json};

use crate::headers::with_upstream_trailers;

/// The service of the lab.
const SPN: &str = "HTTP/legacy.lab.test@LAB.TEST";
const TICKET_TYPE: &str = "urn:kerbridge:token-type:negotiate";
/// Long enough for a busy machine.
const WITHIN: Duration = Duration::from_secs(20);

/// What the broker is asked for, and what it answers.
#[derive(Default)]
struct Tickets {
    asked: Mutex<Vec<Vec<(String, String)>>>,
    issued: AtomicUsize,
    answer: Mutex<Option<Reply>>,
    /// The answers wait.
    is_held: Mutex<bool>,
    let_go: Condvar,
}

impl Tickets {
    fn answer(&self, call: &Incoming) -> Option<Reply> {
        let form = form(&call.body);
        if target(call) != "/oauth2/token" || member(&form, "requested_token_type") != [TICKET_TYPE] {
            return None;
        }
        self.asked.lock().unwrap().push(form);
        let held = self.is_held.lock().unwrap();
        drop(self.let_go.wait_while(held, |is_held| *is_held).unwrap());
        if let Some(answer) = self.answer.lock().unwrap().clone() {
            return Some(answer);
        }
        Some(granted(&ticket(self.issued.fetch_add(1, Ordering::SeqCst))))
    }

    fn asked(&self) -> Vec<Vec<(String, String)>> {
        self.asked.lock().unwrap().clone()
    }

    fn set(&self, answer: Option<Reply>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn hold(&self, is_held: bool) {
        *self.is_held.lock().unwrap() = is_held;
        self.let_go.notify_all();
    }

    fn wait_until_asked(&self, times: usize) {
        wait_until("the question for a ticket", WITHIN, || self.asked().len() >= times).unwrap();
    }
}

/// The values of a form's parameter.
fn member<'f>(form: &'f [(String, String)], name: &str) -> Vec<&'f str> {
    let values = form.iter().filter(|(known, _)| known == name);
    values.map(|(_, value)| value.as_str()).collect()
}

fn form(body: &[u8]) -> Vec<(String, String)> {
    let decoded = |text: &str| {
        let mut out = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((byte, tail)) = rest.split_first() {
            if *byte == b'%' {
                let digits = std::str::from_utf8(&tail[..2]).unwrap();
                out.push(u8::from_str_radix(digits, 16).unwrap());
                rest = &tail[2..];
            } else {
                out.push(*byte);
                rest = tail;
            }
        }
        String::from_utf8(out).unwrap()
    };
    let body = std::str::from_utf8(body).unwrap_or_default();
    body.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect()
}

/// A ticket that nobody else gets: base64 of `60` and the number.
fn ticket(number: usize) -> String {
    format!("YAAA{number:08}")
}

fn http(status: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Raw(
        format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
            .into_bytes(),
    )
}

fn granted(ticket: &str) -> Reply {
    http("200 OK", &reply(ticket).to_string())
}

fn reply(ticket: &str) -> Value {
    json!({"access_token": ticket, "token_type": "N_A", "expires_in": 300, "issued_token_type": TICKET_TYPE})
}

/// Everything that could tell who sent a request.
fn credentials(request: &Incoming) -> Vec<String> {
    let is_one = |name: &[u8]| {
        let name = name.to_ascii_lowercase();
        [
            b"authorization".as_slice(),
            b"cookie",
            b"proxy-authorization",
            b"x-api-token",
        ]
        .contains(&&*name)
    };
    request
        .headers
        .iter()
        .filter(|(name, _)| is_one(name))
        .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        .collect()
}

fn tickets_of(service: &ScriptedServer) -> Vec<Vec<String>> {
    service.requests().iter().map(credentials).collect()
}

fn negotiate(number: usize) -> Vec<String> {
    vec![format!("Negotiate {}", ticket(number))]
}

struct Scene {
    world: World,
    service: ScriptedServer,
    tickets: Arc<Tickets>,
}

impl Scene {
    /// A world with the test's own issuer, a scripted service, and a script in the broker's place where tickets are asked for.
    fn start(
        script: impl Fn(usize, &Incoming) -> Reply + Send + Sync + 'static,
        vary: impl FnOnce(WorldBuilder) -> WorldBuilder,
    ) -> Self {
        let service = ScriptedServer::tcp(script).unwrap();
        let tickets = Arc::new(Tickets::default());
        let broker = Arc::clone(&tickets);
        let builder = World::builder()
            .lab_issuer()
            .intercept(move |call| broker.answer(call))
            .legacy_in_clear(service.port());
        Self {
            world: vary(builder).start().unwrap(),
            service,
            tickets,
        }
    }

    fn token(&self, user: &str) -> String {
        let key = self.world.lab_key().unwrap();
        key.sign(&key.header(), &claims(LAB_ISSUER, user, "legacy", ""))
            .unwrap()
    }

    fn bearer(&self, request: Request) -> Request {
        request.header("authorization", format!("Bearer {}", self.token("alice")))
    }

    /// What a request is refused with, without having reached the service.
    fn refused(&self, request: &Request) -> (u16, String) {
        let before = self.service.requests().len();
        let answer = self.world.send(request).unwrap();
        let refusal = self.world.refusal(answer.status, &answer.body).unwrap();
        let complete = self
            .service
            .requests()
            .into_iter()
            .skip(before)
            .filter(|request| request.complete);
        assert_eq!(complete.count(), 0, "{refusal:?}");
        (refusal.status, refusal.reason)
    }

    fn counted(&self, reason: &str, issuer: &str) -> u64 {
        let name = format!("wasmcustom.kerbridge.tickets.reason.{reason}.issuer.{issuer}");
        self.world.stat(&name).unwrap_or(0)
    }
}

/// Puts a filter in Lua between ours and the router.
fn lua(yaml: &mut ShippedYaml, code: &str) -> Result<(), HarnessError> {
    let router = "          - name: envoy.filters.http.router\n";
    let filter = format!(
        "          - name: in_between\n            typed_config:\n              \
         \"@type\": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua\n              \
         default_source_code: {{inline_string: \"{code}\"}}\n"
    );
    yaml.replace(router, &format!("{filter}{router}"))
}

/// Lets Envoy send trailers to and from the service, which HTTP/1.1 connections do not carry by default.
fn with_trailers(yaml: &mut ShippedYaml) -> Result<(), HarnessError> {
    yaml.insert_below(
        "stat_prefix: https",
        &["http_protocol_options: {enable_trailers: true}"],
    )?;
    with_upstream_trailers(yaml)?;
    yaml.replace(
        "explicit_http_config: {http_protocol_options: {}}\n        http_filters:",
        "explicit_http_config: {http_protocol_options: {enable_trailers: true}}\n        http_filters:",
    )
}

fn plain() -> Scene {
    Scene::start(|_, _| Reply::ok("in"), |builder| builder)
}

#[test]
fn a_token_becomes_a_ticket_and_nothing_that_the_client_showed_reaches_the_service() {
    let scene = plain();
    let token = scene.token("alice");
    let answer = scene
        .world
        .send(
            &Request::get("/legacy/x?y=1")
                .header("authorization", format!("Bearer {token}"))
                .header("proxy-authorization", format!("Bearer {token}"))
                .header("cookie", "a=1; __Host-kerbridge-0000000000000000=stolen; b=2"),
        )
        .unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "in"));
    let seen = tickets_of(&scene.service);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0], ["a=1; b=2", &negotiate(0)[0]]);
    assert!(!format!("{:?}", scene.service.requests()).contains(&token));

    let asked = scene.tickets.asked();
    let named = |name: &str| member(&asked[0], name);
    assert_eq!(asked.len(), 1);
    assert_eq!(named("grant_type"), ["urn:ietf:params:oauth:grant-type:token-exchange"]);
    assert_eq!(
        named("subject_token_type"),
        ["urn:ietf:params:oauth:token-type:access_token"]
    );
    assert_eq!(named("subject_token"), [&token]);
    assert_eq!(named("audience"), [SPN]);
    assert_eq!(named("route"), ["legacy"]);
    assert_eq!(named("request_id").len(), 1);
    assert!(named("source")[0].starts_with("127.0.0.1:"));
    assert!(named("server_name").is_empty() && named("continuation").is_empty());
    assert_eq!(scene.counted("ok", "lab"), 1);
}

#[test]
fn a_clients_ticket_becomes_a_token_and_that_a_ticket_and_the_client_still_has_its_proof() {
    let scene = Scene::start(
        |_, _| {
            Reply::Raw(
                b"HTTP/1.1 200 OK\r\nwww-authenticate: Negotiate oservice\r\nset-cookie: a=b\r\n\
                  authentication-info: x\r\ncontent-length: 0\r\n\r\n"
                    .to_vec(),
            )
        },
        |builder| builder,
    );
    let answer = scene.world.curl_as("alice", "/legacy").send().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let challenges = answer.all("www-authenticate");
    assert_eq!(challenges.len(), 1);
    assert!(challenges[0].starts_with("Negotiate ") && !challenges[0].contains("oservice"));
    assert_eq!(
        (answer.header("set-cookie"), answer.header("authentication-info")),
        (Some("a=b"), Some("x"))
    );
    let token = answer.header("x-kerbridge-token").unwrap();
    assert_eq!(tickets_of(&scene.service), [negotiate(0)]);
    assert!(scene.tickets.asked()[0].contains(&("subject_token".to_owned(), token.to_owned())));
    scene.world.complete("alice", "/legacy").unwrap();
}
