//! What a filter of the chain and one of the cluster have in common, and what becomes of an answer that either gives late.

use std::time::Duration;

use kerbridge_tests::envoy::Envoy;
use kerbridge_tests::http::Request;
use kerbridge_tests::scripted_server::{Reply, ScriptedServer};
use kerbridge_tests::wait::wait_for;
use serde_json::{Value, json};

use crate::bootstrap::{Bootstrap, access_log, probe_with, route_to, said, upstream_filters};

/// `declare_property` of `kerbridge.x`: read-only, a string, living as long as one pass through the chain.
const DECLARE: &str = "foreign declare_property 0a0b6b65726272696467652e7810011801";
const DETAILS: &str = "%RESPONSE_CODE% %RESPONSE_CODE_DETAILS%";

/// The probe under a root of its own in the VM of this name.
fn in_vm(vm: &str, root: &str, config: &str) -> Value {
    probe_with(
        config,
        &json!({"name": root, "root_id": root, "vm_config": {"vm_id": vm}}),
    )
}

fn lines(envoy: &Envoy, with: &str) -> Vec<String> {
    let said = said(envoy).into_iter().map(|line| line.text);
    said.filter(|text| text.starts_with(with)).collect()
}

fn accessed(envoy: &Envoy, line: &str) {
    let wanted = format!("access: {line}\n");
    wait_for(&wanted, Duration::from_secs(5), || {
        envoy.log().contains(&wanted).then_some(())
    })
    .unwrap();
}

/// What the cluster's filter finds of what the chain's filter kept, on each of several workers.
fn kept_upstream(vm_of_chain: &str, vm_of_cluster: &str, code: Option<&std::path::Path>) -> Vec<String> {
    let upstream = ScriptedServer::tcp(|_, _| Reply::ok("up")).unwrap();
    let mut finds = in_vm(vm_of_cluster, "cluster", "headers=kept who; keep who nobody; log");
    if let Some(path) = code {
        let code = finds.pointer_mut("/typed_config/config/vm_config/code/local/filename");
        *code.unwrap() = json!(path);
    }
    let envoy = Bootstrap::default()
        .cluster("up", upstream.port(), &upstream_filters(&[finds]))
        .listener(
            "front",
            &[in_vm(vm_of_chain, "chain", "headers=keep who alice")],
            &route_to("up"),
            &json!({}),
        )
        .start_with(3);
    // Connections land on any worker.
    for _ in 0..12 {
        assert_eq!(envoy.send("front", &Request::get("/")).unwrap().status, 200);
    }
    lines(&envoy, "kept")
}

#[test]
fn filters_of_chain_and_cluster_share_a_vm_where_its_name_and_code_are_the_same() {
    let shared = kept_upstream("one", "one", None);
    assert_eq!(shared, vec!["kept who -> alice"; 12]);
}

#[test]
fn filters_of_chain_and_cluster_share_nothing_where_the_vms_name_or_code_is_another() {
    let apart = kept_upstream("one", "two", None);
    assert_eq!(
        (apart.len(), apart.contains(&"kept who -> alice".to_owned())),
        (12, false)
    );

    // The same program with a section more: custom sections say nothing to the machine.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.wasm");
    let mut code = std::fs::read(crate::bootstrap::module()).unwrap();
    code.extend([0, 2, 1, b'x']);
    std::fs::write(&path, code).unwrap();
    let apart = kept_upstream("one", "one", Some(&path));
    assert_eq!(
        (apart.len(), apart.contains(&"kept who -> alice".to_owned())),
        (12, false)
    );
}

#[test]
fn filter_state_of_one_pass_through_the_chain_is_seen_upstream_in_every_attempt_and_not_after_an_internal_redirect() {
    let upstream = ScriptedServer::tcp(|n, _| match n {
        0 => Reply::status(503, ""),
        1 => Reply::Raw(b"HTTP/1.1 302 Found\r\nlocation: http://a/again\r\ncontent-length: 0\r\n\r\n".to_vec()),
        _ => Reply::ok("up"),
    })
    .unwrap();
    let chain = format!("configure={DECLARE}\nheaders=property kerbridge.x; put kerbridge.x alice; log");
    let routes = json!([{"match": {"prefix": "/"}, "route": {
        "cluster": "up",
        "retry_policy": {"retry_on": "5xx", "num_retries": 1},
        "internal_redirect_policy": {"max_internal_redirects": 1},
    }}]);
    let cluster = upstream_filters(&[in_vm("one", "cluster", "headers=property kerbridge.x; log")]);
    let envoy = Bootstrap::default()
        .cluster("up", upstream.port(), &cluster)
        .listener("front", &[in_vm("one", "chain", &chain)], &routes, &json!({}))
        .start();
    let answer = envoy.send("front", &Request::get("/").host("a")).unwrap();
    assert_eq!(answer.status, 200);
    let one_pass = ["property kerbridge.x -> none", "put kerbridge.x -> 0"];
    let attempt = "property kerbridge.x -> \"alice\"";
    let seen: Vec<String> = said(&envoy)
        .into_iter()
        .map(|line| line.text)
        .filter(|text| text.contains("kerbridge.x"))
        .collect();
    let expected: Vec<&str> = one_pass
        .into_iter()
        .chain([attempt, attempt])
        .chain(one_pass)
        .chain([attempt])
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn an_answer_of_a_clusters_filter_goes_to_the_client_at_once_and_is_never_retried() {
    let upstream = ScriptedServer::tcp(|_, _| Reply::ok("up")).unwrap();
    let oracle = ScriptedServer::tcp(|_, _| Reply::ok("no")).unwrap();
    let retry = json!({
        "retry_on": "5xx,gateway-error,reset,connect-failure,retriable-4xx,retriable-status-codes",
        "retriable_status_codes": [401, 403, 503],
        "num_retries": 5,
    });
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "up", "retry_policy": retry}}]);
    for (now, status) in [(true, 401), (true, 503), (false, 401), (false, 503), (false, 403)] {
        let refuse = format!("refuse {status} own_word");
        let cluster = if now {
            format!("headers=say attempt; log; {refuse}")
        } else {
            format!("headers=say attempt; log; call oracle 1000\nreply={refuse}")
        };
        let chain = "response=property response/code_details; property response/code; log";
        let envoy = Bootstrap::default()
            .cluster("oracle", oracle.port(), &json!({}))
            .cluster(
                "up",
                upstream.port(),
                &upstream_filters(&[in_vm("one", "cluster", &cluster)]),
            )
            .listener("front", &[in_vm("one", "chain", chain)], &routes, &access_log(DETAILS))
            .start();
        let answer = envoy.send("front", &Request::post("/", "a body")).unwrap();
        assert_eq!(answer.status, status);
        accessed(&envoy, &format!("{status} own_word"));
        assert_eq!(lines(&envoy, "attempt"), ["attempt"], "{status}");
        assert_eq!(
            lines(&envoy, "property response/code_details"),
            ["property response/code_details -> \"own_word\""]
        );
    }
    assert_eq!(upstream.requests().iter().filter(|request| request.complete).count(), 0);
}

#[test]
fn the_code_details_tell_a_services_answer_from_envoys_own_and_the_answer_can_be_replaced() {
    let upstream = ScriptedServer::tcp(|_, _| {
        Reply::Raw(
            b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Negotiate\r\ncontent-length: 6\r\n\r\nsecret".to_vec(),
        )
    })
    .unwrap();
    let replaces = "response=property response/code_details; log; refuse 502 own_word";
    let envoy = Bootstrap::default()
        .cluster("up", upstream.port(), &json!({}))
        .cluster("nobody", 1, &json!({}))
        .listener(
            "front",
            &[in_vm("one", "chain", replaces)],
            &route_to("up"),
            &access_log(DETAILS),
        )
        .listener(
            "astray",
            &[in_vm("one", "chain", "response=property response/code_details; log")],
            &route_to("nobody"),
            &json!({}),
        )
        .start();
    for request in [Request::get("/"), Request::post("/", "a body")] {
        let answer = envoy.send("front", &request).unwrap();
        assert_eq!(answer.status, 502);
        assert!(answer.header("www-authenticate").is_none() && !answer.text().contains("secret"));
        assert!(answer.text().contains("via_upstream"), "{}", answer.text());
    }
    accessed(&envoy, "502 own_word");
    assert_eq!(
        lines(&envoy, "property"),
        vec!["property response/code_details -> \"via_upstream\""; 2]
    );
    assert_eq!(envoy.send("astray", &Request::get("/")).unwrap().status, 503);
    let astray = lines(&envoy, "property").pop().unwrap();
    assert!(astray.contains("upstream_reset_before_response_started"), "{astray}");
}

#[test]
fn a_vm_loaded_anew_after_a_trap_is_one_for_both_filters_again_and_knows_nothing_of_before() {
    let upstream = ScriptedServer::tcp(|_, _| Reply::ok("up")).unwrap();
    let envoy = Bootstrap::default()
        .cluster(
            "up",
            upstream.port(),
            &upstream_filters(&[in_vm("one", "cluster", "headers=kept who; kept since; log")]),
        )
        .listener("front", &[in_vm("one", "chain", "")], &route_to("up"), &json!({}))
        .start();
    let status = |script: &str| {
        let request = Request::get("/").header("x-probe", script);
        envoy.send("front", &request).unwrap().status
    };
    assert_eq!(status("keep who alice"), 200);
    assert_eq!(status("panic"), 503);
    // A young VM is loaded again after the back-off.
    wait_for("the VM that comes after", Duration::from_secs(20), || {
        (status("keep since then") == 200).then_some(())
    })
    .unwrap();
    let seen = lines(&envoy, "kept");
    let all = [
        "kept who -> alice",
        "kept since -> none",
        "kept who -> none",
        "kept since -> then",
    ];
    assert_eq!(seen, all);
}

#[test]
fn each_of_two_hedged_attempts_calls_out_for_itself() {
    let upstream = ScriptedServer::tcp(|n, _| if n == 0 { Reply::Never } else { Reply::ok("up") }).unwrap();
    let oracle = ScriptedServer::tcp(|n, _| Reply::ok(&format!("ticket-{n}"))).unwrap();
    let routes = json!([{"match": {"prefix": "/"}, "route": {
        "cluster": "up",
        "retry_policy": {"retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.3s"},
        "hedge_policy": {"hedge_on_per_try_timeout": true},
    }}]);
    let cluster = "headers=call oracle 1000\nreply=take x-ticket; resume";
    let envoy = Bootstrap::default()
        .cluster("oracle", oracle.port(), &json!({}))
        .cluster(
            "up",
            upstream.port(),
            &upstream_filters(&[in_vm("one", "cluster", cluster)]),
        )
        .listener("front", &[], &routes, &json!({}))
        .start();
    assert_eq!(envoy.send("front", &Request::get("/")).unwrap().status, 200);
    let tickets: Vec<_> = upstream
        .requests()
        .iter()
        .map(|request| request.header("x-ticket").map(<[u8]>::to_vec))
        .collect();
    assert_eq!(tickets, [Some(b"ticket-0".to_vec()), Some(b"ticket-1".to_vec())]);
}
