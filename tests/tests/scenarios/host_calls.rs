//! How often the filter calls its host for one request, as Envoy itself traces it: each call crosses the sandbox, and a known
//! token costs little else.

use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::http::Request;
use kerbridge_tests::issuer::Issuer;
use kerbridge_tests::wait::{wait_for, wait_until};
use serde_json::json;

/// What the filter asked of its host for the last request, a word for each call in order, repetitions counted; `/` stands
/// between the callbacks of the head and of the response's head. `None` while the request is not over.
fn calls(log: &str) -> Option<String> {
    let (mut words, mut inside): (Vec<&str>, bool) = (Vec::new(), false);
    let begin = log.rfind("[host->vm] proxy_on_context_create(")?;
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

/// A world in which routes hand tokens back in headers, or do not.
fn world(issuer: &Issuer, delivers: bool) -> World {
    let rarely = json!({"jwks": {"poll": "30m", "max_staleness": "1h"}});
    let world = issuer
        .join(World::builder().broker_stopped(), rarely)
        .filter(move |filter| {
            for route in filter["routes"].as_array_mut().unwrap() {
                if !delivers && route["access"] != "open" {
                    route["deliver"] = json!("none");
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
    let before = world.envoy_log().len();
    assert_eq!(world.send(request).unwrap().status, status);
    wait_for("the end of the request in the trace", Duration::from_secs(10), || {
        calls(world.envoy_log().get(before..)?)
    })
    .unwrap()
}

#[test]
fn each_path_takes_as_few_host_calls_as_is_written_here() {
    let issuer = Issuer::start().unwrap();
    for delivers in [true, false] {
        let mut world = world(&issuer, delivers);
        let bearer = |token: &str| Request::get("/orders/1").header("authorization", format!("Bearer {token}"));
        let token = |id: &str| issuer.token(&json!({"jti": id})).unwrap();
        // The first of each kind defines its counter.
        let known = bearer(&token("known"));
        assert_eq!(world.send(&known).unwrap().status, 200);
        assert_eq!(world.send(&Request::get("/healthz")).unwrap().status, 200);
        assert_eq!(world.send(&Request::get("/orders/1")).unwrap().status, 401);
        world.envoy().admin_post("/logging?wasm=trace").unwrap();

        // What a response costs where some route hands tokens back: no upstream may pass one off as ours.
        let response = if delivers { " time map" } else { "" };
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
