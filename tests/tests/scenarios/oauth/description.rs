//! schemathesis against the running broker, by the description that it serves.

use std::time::Duration;

use kerbridge_tests::certificates::CLIENT;
use kerbridge_tests::oauth_world::{As, OauthWorld};
use kerbridge_tests::process::{OwnedProcess, Spawn};
use kerbridge_tests::shipped::repository;
use serde_json::Value;

/// How many requests are made up for each endpoint: 40, or what this says.
const EXAMPLES: &str = "KERBRIDGE_OPENAPI_EXAMPLES";
/// Longest that it may take.
const WITHIN: Duration = Duration::from_secs(1200);

#[test]
fn whatever_is_sent_by_the_served_description_is_answered_as_it_says() {
    let mut lab = OauthWorld::start_with("[limits]\nfailures_per_minute = 0\n").unwrap();
    let token = lab.token(As::Key, "orders").unwrap();
    let files = lab.world().certificates().clone();
    // It looks for its own files where it is started.
    let folder = tempfile::tempdir().unwrap();
    let spawn = Spawn::new(repository().join("target/tools/oauth/bin/schemathesis"), folder.path())
        .name("schemathesis")
        .cwd(folder.path())
        .args(["run", &format!("{}/.well-known/openapi.json", lab.issuer())])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
             response_schema_conformance,unsupported_method,allow_header_conformance",
        ])
        .args([
            "--max-examples",
            &std::env::var(EXAMPLES).unwrap_or_else(|_| "40".to_owned()),
        ])
        .args([
            "--seed",
            "7",
            "--no-color",
            "--request-timeout",
            "15",
            "--warnings",
            "off",
        ])
        .arg("--tls-verify")
        .arg(&files.authority)
        .arg("--request-cert")
        .arg(&files.client_certificate)
        .arg("--request-cert-key")
        .arg(&files.client_private_key)
        .env("SCHEMATHESIS_HOOKS", "openapi_hooks")
        .env("PYTHONPATH", repository().join("tests/clients"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HOME", folder.path())
        .env("NO_PROXY", "*")
        .env("TOKEN", &token)
        .env("AUDIENCE", "billing");
    let mut run = OwnedProcess::start(spawn).unwrap();
    let status = run.wait_exit(WITHIN).unwrap();
    assert!(status.success(), "{}", run.log());
    println!("{}", run.log_tail());
    // It met good answers, too, and what was good before is good still.
    let log = lab.world().broker().log();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let good: Vec<Value> = events.filter(|event| event["reason"] == "ok").collect();
    for message in ["exchanged", "introspected"] {
        let met = |event: &&Value| event["message"] == message && event["client_id"] == CLIENT;
        assert!(good.iter().filter(met).count() > 1, "{message}");
    }
    assert_eq!(super::opens(&mut lab, "/orders/1", &token), 200);
    assert!(lab.token(As::Key, "orders").is_ok());
}
