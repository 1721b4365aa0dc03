//! Runs the programs that check manifests.

use std::ffi::OsStr;
use std::process::Command;

use kerbridge_tests::broker::{Broker, BrokerSettings};
use kerbridge_tests::process::find_program;
use kerbridge_tests::shipped::{self, HOST, ISSUER, REALM, repository};
use serde_json::Value;

/// What a program prints, as JSON.
fn json(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// A command of `manifests.py`.
pub(crate) fn python(arguments: &[&OsStr]) -> Value {
    let python = repository().join("target/tools/manifests/bin/python");
    assert!(python.exists(), "{}: run `make setup`", python.display());
    let script = repository().join("tests/clients/manifests.py");
    json(Command::new(python).arg(script).args(arguments))
}

/// Whether Helm is here. A test that needs it and returns early says so by this.
#[expect(clippy::print_stderr, reason = "a test that was left out is to be seen")]
pub(crate) fn has_helm() -> bool {
    let has = cfg!(target_arch = "x86_64");
    if !has {
        eprintln!("left out: PyPI has Helm for x86_64 alone");
    }
    has
}

/// The documents of a YAML text.
pub(crate) fn documents(yaml: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("manifests.yaml");
    std::fs::write(&file, yaml).unwrap();
    let Value::Array(all) = python(&["read".as_ref(), file.as_ref()]) else {
        panic!("no list: {yaml}");
    };
    all
}

/// What is wrong with Istio's objects by the CRDs of Istio.
pub(crate) fn istio_complaints(documents: &[Value]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("documents.json");
    std::fs::write(&file, serde_json::to_vec(documents).unwrap()).unwrap();
    let package = repository().join("target/tools/schemas/node_modules/@kubernetes-models/istio");
    assert!(package.exists(), "{}: run `make setup`", package.display());
    let script = repository().join("tests/clients/istio_schemas.mjs");
    let node = find_program("node").unwrap();
    serde_json::from_value(json(Command::new(node).args([&script, &package, &file]))).unwrap()
}

/// `kerbridge policy render` of the shipped policy, or of what `edit` makes of it; what it printed, and whether it was done.
pub(crate) fn try_render(edit: impl FnOnce(&str) -> String, arguments: &[&str]) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let policy = edit(&shipped::policy(HOST, REALM).unwrap());
    let settings = BrokerSettings {
        issuer: ISSUER.to_owned(),
        realms: vec![REALM.to_owned()],
        acceptors: vec![format!("HTTP/{HOST}@{REALM}")],
        keytab: folder.path().join("http.keytab"),
        policy,
        more: String::new(),
    };
    let broker = Broker::prepare(folder.path(), &settings).unwrap();
    let config = broker.config();
    let mut all = vec!["policy", "render", "--config", config.to_str().unwrap()];
    all.extend(arguments);
    let (status, printed) = Broker::run(folder.path(), &all).unwrap();
    (status.success(), printed)
}

/// The same where it must be done.
pub(crate) fn render(edit: impl FnOnce(&str) -> String, arguments: &[&str]) -> String {
    let (done, printed) = try_render(edit, arguments);
    assert!(done, "{printed}");
    printed
}

/// The shipped policy without its route to a Kerberos service.
pub(crate) fn without_legacy(policy: &str) -> String {
    let edited = policy.replace(
        "upstream = { kerberos = { spn = \"HTTP/legacy.example.com@EXAMPLE.COM\" } }\n",
        "",
    );
    assert_ne!(edited, policy);
    edited
}

/// The module that the tests run.
pub(crate) fn module() -> String {
    shipped::module().unwrap().to_str().unwrap().to_owned()
}
