//! One trace of Envoy and the broker, as docs/tracing.md sets both up: read from what a collector is handed.

use std::time::Duration;

use kerbridge_tests::collector::{Collector, Seen};
use kerbridge_tests::document::blocks;
use kerbridge_tests::envoy;
use kerbridge_tests::shipped::{ShippedYaml, repository};
use kerbridge_tests::wait::wait_for;
use kerbridge_tests::world::WorldBuilder;
use kerbridge_tests::{HarnessError, World};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT: &str = "00f067aa0ba902b7";
const WITHIN: Duration = Duration::from_secs(20);

/// A block of the page, as deep as it comes in the shipped configuration.
fn block(info: &str, deep: usize, port: u16) -> String {
    let page = std::fs::read_to_string(repository().join("docs/tracing.md")).unwrap();
    let found = blocks(&page).into_iter().find(|block| block.info == info).unwrap();
    let text = found
        .text
        .replace("4318", &port.to_string())
        .replace("{value: 1}", "{value: 100}");
    text.lines().map(|line| format!("{:deep$}{line}\n", "")).collect()
}

/// Whether Envoy can say which its span is.
fn says_its_span() -> bool {
    envoy::is_at_least(1, 38).unwrap()
}

fn traced(yaml: &mut ShippedYaml, port: u16) -> Result<(), HarnessError> {
    let filters = "          http_filters:\n          # Rendered";
    let mut with = block("yaml of a connection manager", 10, port);
    with.push_str("          http_filters:\n");
    if says_its_span() {
        with.push_str(&block("yaml of an http filter, Envoy 1.38", 10, port));
    }
    yaml.replace(filters, &format!("{with}          # Rendered"))?;
    yaml.replace(
        "  clusters:\n",
        &format!("  clusters:\n{}", block("yaml of a cluster", 2, port)),
    )
}

fn start(builder: WorldBuilder, collector: &Collector, more: &str) -> World {
    let port = collector.port();
    let table = format!("[tracing]\nendpoint = \"http://127.0.0.1:{port}/v1/traces\"\n{more}");
    let builder = builder.broker_table(&table).yaml(move |yaml| traced(yaml, port));
    builder.start().unwrap()
}

/// The spans of the trace, once these services have handed over theirs.
fn spans(collector: &Collector, wanted: &[(&str, &str)]) -> Vec<Seen> {
    wait_for("the spans of the trace", WITHIN, || {
        let mut all = collector.spans().unwrap();
        all.retain(|span| span.trace == TRACE);
        let is_there = |(service, name): &(&str, &str)| {
            all.iter()
                .any(|span| span.service == *service && (name.is_empty() || span.name == *name))
        };
        wanted.iter().all(is_there).then_some(all)
    })
    .unwrap()
}

fn find<'s>(spans: &'s [Seen], service: &str, name: &str) -> &'s Seen {
    let found = spans
        .iter()
        .find(|span| span.service == service && (name.is_empty() || span.name == name));
    found.unwrap()
}

#[test]
fn a_tickets_exchange_is_a_child_of_envoys_span_in_one_trace_and_says_no_credential() {
    let collector = Collector::start().unwrap();
    let world = start(World::builder(), &collector, "");
    let call = world.curl_as("alice", "/orders/1");
    let call = call.header(&format!("traceparent: 00-{TRACE}-{CLIENT}-01"));
    assert_eq!(call.send().unwrap().status, 200);

    let spans = spans(&collector, &[("kerbridge", "POST /oauth2/token"), ("envoy", "")]);
    let (envoy, root) = (
        find(&spans, "envoy", ""),
        find(&spans, "kerbridge", "POST /oauth2/token"),
    );
    assert_eq!(envoy.parent, CLIENT, "{spans:#?}");
    let parent = if says_its_span() { envoy.id.as_str() } else { CLIENT };
    assert_eq!(
        (root.parent.as_str(), root.kind, root.status),
        (parent, 2, 0),
        "{spans:#?}"
    );
    for (name, value) in [
        ("kerbridge.reason", "ok"),
        ("kerbridge.fault", "none"),
        ("kerbridge.direction", "ticket_to_token"),
        ("kerbridge.listener", "mesh"),
        ("kerbridge.audience", "orders"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(root.attributes.get(name).map(String::as_str), Some(value), "{root:#?}");
    }
    // Nobody said that people are to be named.
    assert!(
        !format!(
            "{:?}",
            spans
                .iter()
                .filter(|span| span.service == "kerbridge")
                .collect::<Vec<_>>()
        )
        .contains("alice")
    );
    for step in ["accept ticket", "note first use", "look up groups", "sign token"] {
        let step = find(&spans, "kerbridge", step);
        assert_eq!(step.parent, root.id, "{step:#?}");
        assert_eq!(step.attributes["kerbridge.reason"], "ok");
    }
}

#[test]
fn what_is_refused_says_its_reason_and_what_its_caller_does_not_record_is_not_recorded() {
    let collector = Collector::start().unwrap();
    let mut world = start(World::builder(), &collector, "principals = true\n");
    let ticket = world.negotiate_token("alice", "HTTP/localhost@LAB.TEST").unwrap();
    let ask = |flags: &str, ticket: &str| {
        let call = world
            .curl("/orders/1")
            .header(&format!("authorization: Negotiate {ticket}"));
        let call = call.header(&format!("traceparent: 00-{TRACE}-{CLIENT}-{flags}"));
        call.send().unwrap().status
    };
    assert_eq!(ask("00", &ticket), 200);
    assert_eq!(ask("01", &ticket), 401);
    let spans = spans(&collector, &[("kerbridge", "POST /oauth2/token")]);
    let recorded: Vec<_> = spans.iter().filter(|span| span.name == "POST /oauth2/token").collect();
    assert_eq!(recorded.len(), 1, "{recorded:#?}");
    assert_eq!(recorded[0].attributes["kerbridge.reason"], "replay");
    // It is the client's fault, and so no error of the server's.
    assert_eq!(recorded[0].status, 0);
    // At the end nothing is left behind, and the one that was not wanted did not come late.
    world.broker().stop().unwrap();
    let mut after = collector.spans().unwrap();
    after.retain(|span| span.name == "POST /oauth2/token");
    assert_eq!(after.len(), 1, "{after:#?}");
}

#[test]
fn a_ticket_in_a_users_name_is_in_the_trace_of_the_request_that_needs_it() {
    let collector = Collector::start().unwrap();
    let world = start(World::builder().delegating(), &collector, "principals = true\n");
    let call = world.curl_as("alice", "/legacy/");
    let call = call.header(&format!("traceparent: 00-{TRACE}-{CLIENT}-01"));
    assert_eq!(call.send().unwrap().status, 200);
    let spans = spans(&collector, &[("kerbridge", "get ticket"), ("envoy", "")]);
    let (envoy, ticket) = (find(&spans, "envoy", ""), find(&spans, "kerbridge", "get ticket"));
    let root = spans.iter().find(|span| span.id == ticket.parent).unwrap();
    assert_eq!(root.parent, envoy.id, "{spans:#?}");
    assert_eq!(root.attributes["kerbridge.direction"], "token_to_ticket");
    assert_eq!(root.attributes["enduser.id"], "alice@LAB.TEST");
}

#[test]
fn a_collector_that_is_away_costs_spans_and_no_request() {
    let collector = Collector::start().unwrap();
    let port = collector.port();
    let mut world = start(World::builder(), &collector, "timeout = \"1s\"\n");
    drop(collector);
    let call = world
        .curl_as("alice", "/orders/1")
        .header(&format!("traceparent: 00-{TRACE}-{CLIENT}-01"));
    assert_eq!(call.send().unwrap().status, 200);
    let said = format!("\"endpoint\":\"http://127.0.0.1:{port}/v1/traces\"");
    wait_for("a complaint about the collector", WITHIN, || {
        let log = world.broker().log();
        log.lines()
            .any(|line| line.contains("spans are lost") && line.contains(&said))
            .then_some(())
    })
    .unwrap();
    // It ends in time all the same.
    world.broker().stop().unwrap();
}
