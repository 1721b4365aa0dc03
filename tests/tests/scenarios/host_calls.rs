//! How often the filter calls its host for one request, as Envoy itself traces it: each call crosses the sandbox, and a known
//! token costs little else.

use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::http::Request;
use kerbridge_tests::issuer::Issuer;
use kerbridge_tests::scripted_server::{Reply, ScriptedServer};
use kerbridge_tests::upstream::target;
use kerbridge_tests::wait::{wait_for, wait_until};
use serde_json::{Value, json};

/// What the filter asked of its host for a request, a word for each call in order, repetitions counted; `/` stands before the
/// callback of the response's head, `|` before that of a callout. The first request's, or that of its attempt at a Kerberos
/// service, whose context comes next. `None` while it is not over.
fn calls(log: &str, is_attempt: bool) -> Option<String> {
    let (mut words, mut inside): (Vec<&str>, bool) = (Vec::new(), false);
    let mut created = log.match_indices("[host->vm] proxy_on_context_create(");
    let (begin, _) = created.nth(usize::from(is_attempt))?;
    let context = log.get(begin..)?.split(['(', ',']).nth(1)?;
    // Other threads write to the same log: `[time][thread][level][logger] …`.
    let thread = |line: &str| line.split("][").nth(1).map(str::to_owned);
    let line_of_begin = log.get(..begin)?.rfind('\n').map_or(0, |at| at.saturating_add(1));
    let lines = log.get(line_of_begin..)?;
    let ours = thread(lines)?;
    for line in lines.lines().filter(|line| thread(line).as_ref() == Some(&ours)) {
        let Some((_, said)) = line
            .split_once("wasm_vm.cc:")
            .and_then(|(_, rest)| rest.split_once("] "))
        else {
            continue;
        };
        if let Some(callback) = said.strip_prefix("[host->vm] proxy_on_") {
            let is_ours = callback.split(['(', ',', ')']).nth(1) == Some(context);
            match callback.split('(').next()? {
                "memory_allocate" => {}
                "delete" if is_ours => return Some(counted(&words)),
                "response_headers" if is_ours => {
                    words.push("/");
                    inside = true;
                }
                // Its context is the root's here; the module knows whose answer it is.
                "http_call_response" if is_attempt => {
                    words.push("|");
                    inside = true;
                }
                _ => inside = is_ours,
            }
        } else if said.starts_with("[host<-vm] proxy_on_") && !said.contains("memory_allocate") {
            inside = false;
        } else if let Some(call) = said.strip_prefix("[vm->host] env.proxy_").filter(|_| inside) {
            words.push(match call.split('(').next()? {
                "get_current_time_nanoseconds" => "time",
                "get_property" => "attribute",
                "get_header_map_value" => "header",
                "get_header_map_pairs" => "map",
                "replace_header_map_value" => "set",
                "remove_header_map_value" => "remove",
                "add_header_map_value" => "add",
                "increment_metric" => "count",
                "call_foreign_function" => "verify",
                "send_local_response" => "answer",
                "set_property" => "state",
                "http_call" => "call",
                "get_buffer_bytes" => "body",
                "set_effective_context" => "context",
                "continue_stream" => "resume",
                other => other,
            });
        }
    }
    None
}

/// `a b*3 c`
fn counted(words: &[&str]) -> String {
    let groups = words.chunk_by(|one, other| one == other);
    let shown = groups.map(|group| match group {
        [one] => (*one).to_owned(),
        several => format!("{}*{}", several[0], several.len()),
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// How sessions reach clients, which is what a response costs.
#[derive(Clone, Copy, Debug)]
enum Sessions {
    /// Routes hand tokens back in headers: no upstream may pass one off as ours.
    InHeaders,
    /// A route takes cookies: no upstream may set one of ours.
    InCookies,
    /// Tokens stay where they are.
    Nowhere,
}

/// A world in which routes do this.
fn world(issuer: &Issuer, sessions: Sessions) -> World {
    let rarely = json!({"jwks": {"poll": "30m", "max_staleness": "1h"}});
    let world = issuer
        .join(World::builder().broker_stopped(), rarely)
        .filter(move |filter| {
            let proven = |route: &&mut Value| route["access"] != "open";
            for route in filter["routes"].as_array_mut().unwrap().iter_mut().filter(proven) {
                match sessions {
                    Sessions::InHeaders => {}
                    Sessions::InCookies => {
                        route["deliver"] = json!("none");
                        route["accept"] = json!(["bearer", "cookie"]);
                    }
                    Sessions::Nowhere => route["deliver"] = json!("none"),
                }
            }
        })
        .start()
        .unwrap();
    wait_until("keys", Duration::from_secs(10), || {
        world.stat("wasmcustom.kerbridge.key_sets_taken.issuer.id") == Some(2)
    })
    .unwrap();
    world
}

/// Sends a request and shows the calls that it took.
fn trace(world: &mut World, request: &Request, status: u16) -> String {
    let [calls, _] = trace_both(world, request, status, false);
    calls
}

/// The same, and those of its attempt at a Kerberos service, where it has one.
fn trace_both(world: &mut World, request: &Request, status: u16, has_attempt: bool) -> [String; 2] {
    let before = world.envoy_log().len();
    assert_eq!(world.send(request).unwrap().status, status);
    wait_for("the end of the request in the trace", Duration::from_secs(10), || {
        let log = world.envoy_log();
        let log = log.get(before..)?;
        let attempt = if has_attempt { calls(log, true)? } else { String::new() };
        Some([calls(log, false)?, attempt])
    })
    .unwrap()
}

#[test]
fn each_path_takes_as_few_host_calls_as_is_written_here() {
    let issuer = Issuer::start().unwrap();
    for sessions in [Sessions::InHeaders, Sessions::InCookies, Sessions::Nowhere] {
        let mut world = world(&issuer, sessions);
        let bearer = |token: &str| Request::get("/orders/1").header("authorization", format!("Bearer {token}"));
        let token = |id: &str| issuer.token(&json!({"jti": id})).unwrap();
        // The first of each kind defines its counter.
        let known = bearer(&token("known"));
        assert_eq!(world.send(&known).unwrap().status, 200);
        assert_eq!(world.send(&Request::get("/healthz")).unwrap().status, 200);
        assert_eq!(world.send(&Request::get("/orders/1")).unwrap().status, 401);
        world.envoy().admin_post("/logging?wasm=trace").unwrap();

        let response = match sessions {
            Sessions::InHeaders => " time map",
            Sessions::InCookies => " header",
            Sessions::Nowhere => "",
        };
        // Known token: authorization, no cookie, its TLS, method, path, authority; three identity headers set, authorization removed.
        assert_eq!(
            trace(&mut world, &known, 200),
            format!("time attribute header*4 attribute set*3 remove count /{response}")
        );
        // Another one: every header, TLS; the signature.
        assert_eq!(
            trace(&mut world, &bearer(&token("new")), 200),
            format!("time attribute map attribute verify set*3 remove count /{response}")
        );
        assert_eq!(
            trace(&mut world, &Request::get("/healthz"), 200),
            format!("time attribute map attribute count /{response}")
        );
        assert_eq!(
            trace(&mut world, &Request::get("/orders/1"), 401),
            "time attribute map attribute count answer /"
        );
    }
}

#[test]
fn an_attempt_at_a_kerberos_service_takes_as_few_host_calls_as_is_written_here() {
    let issuer = Issuer::start().unwrap();
    let service = ScriptedServer::tcp(|_, _| Reply::ok("in")).unwrap();
    let rarely = json!({"jwks": {"poll": "30m", "max_staleness": "1h"}});
    let builder = World::builder().without_keys().legacy_in_clear(service.port());
    let builder = builder.intercept(|call| {
        let body = json!({
            "access_token": "YAAA", "token_type": "N_A", "expires_in": 300,
            "issued_token_type": "urn:kerbridge:token-type:negotiate",
        });
        let body = body.to_string();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
        let reply = Reply::Raw(format!("{head}: {}\r\n\r\n{body}", body.len()).into_bytes());
        (target(call) == "/oauth2/token").then_some(reply)
    });
    let mut world = issuer.join(builder, rarely).start().unwrap();
    wait_until("keys", Duration::from_secs(10), || {
        world.stat("wasmcustom.kerbridge.key_sets_taken.issuer.id") == Some(2)
    })
    .unwrap();
    let token = issuer.token(&json!({"aud": "legacy"})).unwrap();
    let request = Request::get("/legacy/x").header("authorization", format!("Bearer {token}"));
    assert_eq!(world.send(&request).unwrap().status, 200);
    world.envoy().admin_post("/logging?wasm=trace").unwrap();
    let [gate, attempt] = trace_both(&mut world, &request, 200, true);
    // A known token, seen to be for a Kerberos service only after the few reads of the warm path; the handle.
    assert_eq!(
        gate,
        "time attribute header*4 attribute map attribute set*3 remove count state / time map attribute"
    );
    // Its handle, the client's address, and the two lines of a trace; the SDK makes the calls that follow those of the attempt.
    assert_eq!(attempt, "time attribute*4 call | context map body set count resume /");
}
