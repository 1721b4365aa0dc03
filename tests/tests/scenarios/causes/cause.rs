//! Brings a cause about and asks every witness of it: answer, challenge, metric, log, the broker's word and the doctor.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbridge_tests::World;
use kerbridge_tests::broker::{ask, find_kerbridge};
use kerbridge_tests::http::{Request, Response};
use kerbridge_tests::initiator::token_in_child;
use kerbridge_tests::kdc::{Ccache, Kdc};
use kerbridge_tests::world::{SERVICE, lab_program};
use kerbridge_wire::Reason;
use kerbridge_wire::reason::ChallengeRule;
use serde_json::Value;

use crate::doctor::{bad, examine};

const OBSERVE: &str = "[listen.observe]\nunix = \"observe.sock\"\n";

/// A way to be refused.
pub(super) struct Cause {
    pub(super) reason: Reason,
    /// Brings it about, and returns the answer that has it.
    pub(super) act: fn(&mut Lab) -> Response,
    pub(super) doctor: Doctor,
}

/// What the doctor, on the broker's machine, can know of a cause.
pub(super) enum Doctor {
    /// All bad findings, each as check and reason.
    Finds(&'static [&'static str]),
    /// The configuration cannot be used any more, and this field says why.
    Stops(&'static str),
    /// Nothing is wrong that it could see: the cause is in what one client sends.
    IsWell,
}

/// A world, and what the doctor is told beside its configuration.
pub(super) struct Lab {
    pub(super) world: World,
    /// The tickets of whoever was refused.
    pub(super) tickets: Option<Ccache>,
    /// By how much the broker's machine is off, as faketime says it.
    pub(super) clock: Option<&'static str>,
    /// What must live as long as the cause.
    pub(super) others: Vec<Kdc>,
}

impl Lab {
    fn start(tables: &str) -> Self {
        let tables = format!("{OBSERVE}{tables}");
        Self {
            world: World::builder().record().broker_table(&tables).start().unwrap(),
            tickets: None,
            clock: None,
            others: Vec::new(),
        }
    }

    pub(super) fn send(&self, token: &[u8]) -> Response {
        self.world.send(&negotiate(token)).unwrap()
    }

    /// Logs a user in, whom the doctor is told about, and makes a token of that user's.
    pub(super) fn token_of(&mut self, user: &str, options: &[&str]) -> Vec<u8> {
        let tickets = self.world.kdc().kinit_with(user, options).unwrap();
        let token = token_in_child(&lab_program().unwrap(), self.world.kdc(), &tickets, SERVICE).unwrap();
        self.tickets = Some(tickets);
        STANDARD.decode(token).unwrap()
    }

    pub(super) fn alices_token(&self) -> Vec<u8> {
        STANDARD
            .decode(self.world.negotiate_token("alice", SERVICE).unwrap())
            .unwrap()
    }

    /// Starts the broker anew on a machine whose clock is off.
    pub(super) fn set_clock(&mut self, offset: &'static str) {
        self.clock = Some(offset);
        let broker = self.world.broker();
        // faketime does not pass SIGTERM on.
        broker.kill().unwrap();
        broker.start_through(&["faketime", "-f", offset]);
        broker.start().unwrap();
    }

    fn counted(&self, reason: Reason) -> u64 {
        let answer = ask(&self.world.folder().join("observe.sock"), &Request::get("/metrics")).unwrap();
        let line = format!("kerbridge_exchanges_total{{reason=\"{reason}\"}} ");
        let text = answer.text();
        text.lines()
            .find_map(|found| found.strip_prefix(&line)?.parse().ok())
            .unwrap()
    }

    /// The last word of the broker to the filter.
    fn told(&self) -> Value {
        let recorded = self.world.relay().unwrap().recorded();
        let mut exchanges = recorded
            .iter()
            .filter(|recorded| recorded.call.line.starts_with("POST /oauth2/token "));
        let answer = exchanges.next_back().and_then(|recorded| recorded.answer.as_ref());
        serde_json::from_slice(&answer.unwrap().body).unwrap()
    }

    fn check(&mut self, cause: &Cause) {
        let Cause { reason, act, doctor } = cause;
        let word = reason.as_str();
        let before = self.counted(*reason);
        let answer = act(self);
        let refusal = self.world.refusal(answer.status, &answer.body).unwrap();
        assert_eq!(
            (refusal.status, refusal.reason.as_str()),
            (reason.status(), word),
            "the answer"
        );
        let told = self.told();
        assert_eq!(told["reason"], word, "what the filter is told");
        // The acceptor's own word for the client, where the client may try again.
        let challenges: Vec<_> = answer.all("www-authenticate").map(String::from_utf8_lossy).collect();
        let challenge = match (reason.challenge(), told["negotiate"].as_str()) {
            (ChallengeRule::Negotiate, Some(token)) => Some(format!("Negotiate {token}")),
            (ChallengeRule::Negotiate, None) => Some("Negotiate".to_owned()),
            (_, _) => None,
        };
        let first = challenges.iter().find(|line| line.starts_with("Negotiate"));
        assert_eq!(first.map(AsRef::as_ref), challenge.as_deref(), "{word}: {challenges:?}");
        let has_token = matches!(
            reason,
            Reason::Replay
                | Reason::TicketNotYetValid
                | Reason::ClockSkew
                | Reason::ChannelBindingMismatch
                | Reason::ContinueNeeded
        );
        assert!(!has_token || told["negotiate"].is_string(), "{word}: GSSAPI makes one");
        assert_eq!(self.counted(*reason), before.saturating_add(1), "{word}: the metric");
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let request = body["request_id"].as_str().unwrap();
        let log = self.world.broker().logged(request);
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let line = lines.find(|line| line["request_id"] == request).unwrap();
        assert_eq!(
            (&line["reason"], &line["message"]),
            (&word.into(), &"refused".into()),
            "{line}"
        );
        self.consult(word, doctor);
    }

    fn consult(&mut self, word: &str, doctor: &Doctor) {
        let listener = format!("127.0.0.1:{}", self.world.port());
        let mut more = vec!["--envoy-listener", &listener];
        let tickets = self
            .tickets
            .as_ref()
            .map(|tickets| tickets.path().display().to_string());
        if let Some(tickets) = &tickets {
            more.extend(["--ccache", tickets]);
        }
        let expected = match doctor {
            Doctor::Finds(expected) => expected,
            Doctor::IsWell => &[][..],
            Doctor::Stops(field) => {
                let config = self.world.broker().config();
                let output = Command::new(find_kerbridge().unwrap())
                    .args(["doctor", "--config"])
                    .arg(config)
                    .output()
                    .unwrap();
                let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(output.status.code(), Some(78), "{word}: {complaint}");
                assert!(complaint.contains(field), "{word}: {complaint}");
                return;
            }
        };
        let (findings, _) = examine(&mut self.world, &more, self.clock);
        assert_eq!(bad(&findings), expected, "{word}: {findings:#?}");
    }
}

pub(super) fn negotiate(token: &[u8]) -> Request {
    Request::get("/orders/1").header("authorization", format!("Negotiate {}", STANDARD.encode(token)))
}

pub(super) fn check_all(tables: &str, causes: &[Cause]) {
    let mut lab = Lab::start(tables);
    for cause in causes {
        lab.check(cause);
    }
    if lab.clock.is_some() {
        lab.world.broker().kill().unwrap();
    }
}
