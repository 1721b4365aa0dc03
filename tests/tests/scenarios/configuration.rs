//! A wrong configuration is refused before anything is served, and says which field it is.

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::time::Duration;

use kerbridge_tests::broker::{Broker, BrokerSettings, find_kerbridge};
use kerbridge_tests::process::{OwnedProcess, Spawn, copy_program};
use kerbridge_tests::shipped::{self, ISSUER};
use kerbridge_tests::world::{REALM, SERVICE};
use kerbridge_tests::{World, envoy};
use serde_json::{Value, json};

/// What `envoy --mode validate` says of a filter configuration that differs from the shipped one.
fn validate(edit: impl FnOnce(&mut Value) + 'static) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let yaml = World::builder().filter(edit).yaml_in(folder.path()).unwrap();
    envoy::validate(yaml.text()).map_err(|error| error.to_string())
}

#[test]
fn envoy_takes_the_shipped_configuration_and_refuses_a_wrong_field_by_its_name() {
    validate(|_| {}).unwrap();
    let refusal = validate(|filter| filter["issuers"][0]["jwks"]["poll"] = json!("2 seconds")).unwrap_err();
    assert!(refusal.contains("issuers[0].jwks.poll"), "{refusal}");
    // All problems at once.
    let refusal = validate(|filter| {
        filter["routes"][1]["path_prefix"] = json!("orders");
        filter["broker"]["issuer"] = json!("https://nobody.example.com");
    })
    .unwrap_err();
    assert!(
        refusal.contains("routes[1].path_prefix") && refusal.contains("broker.issuer"),
        "{refusal}"
    );
}

#[test]
fn envoy_refuses_a_configuration_that_is_no_string_or_no_json() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = World::builder()
        .yaml(|yaml| yaml.set_filter_configuration("routes: all"))
        .yaml_in(folder.path())
        .unwrap();
    let refusal = envoy::validate(yaml.text()).unwrap_err().to_string();
    assert!(refusal.contains("JSON"), "{refusal}");
    let yaml = World::builder()
        .yaml(|yaml| {
            // That of the listener's filter, not the cluster's.
            let typed = |kind: &str| format!("google.protobuf.{kind}\n{}value: |", " ".repeat(18));
            yaml.replace(&typed("StringValue"), &typed("Struct"))?;
            yaml.remove_block("value: |")?;
            yaml.insert_below(
                "\"@type\": type.googleapis.com/google.protobuf.Struct",
                &["value: {routes: []}"],
            )
        })
        .yaml_in(folder.path())
        .unwrap();
    let refusal = envoy::validate(yaml.text()).unwrap_err().to_string();
    assert!(refusal.contains("StringValue"), "{refusal}");
}

#[test]
fn envoy_does_not_start_with_a_wrong_filter_configuration() {
    let started = World::builder()
        .broker_stopped()
        .filter(|filter| filter["routes"] = json!("all"))
        .start();
    let refusal = started.err().unwrap().to_string();
    assert!(refusal.contains("routes"), "{refusal}");
}

/// A broker's folder with everything right, and a keytab that any text will do for.
fn prepared(folder: &Path) -> Broker {
    let settings = BrokerSettings {
        issuer: ISSUER.to_owned(),
        realms: vec![REALM.to_owned()],
        acceptors: vec![SERVICE.to_owned()],
        keytab: folder.join("http.keytab"),
        policy: shipped::policy_of_a_minter("localhost", REALM).unwrap(),
        more: String::new(),
    };
    Broker::prepare(folder, &settings).unwrap()
}

/// The exit code and the output of `kerbridge serve`, which must end by itself.
fn serve(broker: &Broker) -> (Option<i32>, String) {
    let config = broker.config();
    let (status, said) = Broker::run(broker.folder(), &["serve", "--config", &config.to_string_lossy()]).unwrap();
    assert!(!broker.socket().exists(), "it listened: {said}");
    (status.code(), said)
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn edit(broker: &Broker, from: &str, to: &str) {
    let config = std::fs::read_to_string(broker.config()).unwrap();
    assert!(config.contains(from), "{from} in {config}");
    std::fs::write(broker.config(), config.replace(from, to)).unwrap();
}

#[test]
fn the_broker_says_all_that_is_wrong_before_it_listens() {
    let folder = tempfile::tempdir().unwrap();
    let broker = prepared(folder.path());
    edit(
        &broker,
        "issuer = \"https://kerbridge.example.com\"",
        "issuer = \"kerbridge\"\nsurprise = 1",
    );
    edit(&broker, "realms = [\"LAB.TEST\"]", "realms = []");
    edit(
        &broker,
        "principal = \"HTTP/localhost@LAB.TEST\"",
        "principal = \"localhost\"",
    );
    // Beside the mistakes in the file, one around it.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let observe = format!("[listen.observe]\ntcp = \"{address}\"\nclear_text = true\n[kerberos]");
    edit(&broker, "[kerberos]", &observe);
    std::fs::write(folder.path().join("policy.toml"), "[[grant]]\naudience = \"nothing\"\n").unwrap();
    std::fs::set_permissions(folder.path().join("kek"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = serve(&broker);
    assert_eq!(code, Some(78), "{said}");
    for field in [
        "surprise",
        "issuer",
        "kerberos.realms",
        "kerberos.acceptor[0].principal",
        "kerberos.acceptor[0].keytab",
        "keys.key_encryption_key_file",
        "grant[0]",
        &format!("listen.observe.tcp: {address}: address already in use"),
    ] {
        assert!(said.contains(field), "{field} in:\n{said}");
    }
}

#[test]
fn the_broker_names_a_keytab_that_is_missing_wrong_or_open_to_others() {
    let world = World::builder().broker_stopped().start().unwrap();
    let keytab = world.folder().join("http.keytab");
    let good = std::fs::read(&keytab).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let broker = prepared(folder.path());
    let own = folder.path().join("http.keytab");
    let put = |bytes: &[u8], mode: u32| {
        std::fs::write(&own, bytes).unwrap();
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let refused = |what: &str| {
        let (code, said) = serve(&broker);
        assert_eq!(code, Some(78), "{what}: {said}");
        assert!(said.contains("kerberos.acceptor[0]"), "{what}: {said}");
    };
    refused("missing");
    put(b"nonsense", 0o600);
    refused("no keytab");
    put(&good, 0o644);
    refused("open to others");
    put(&good, 0o600);
    edit(&broker, "HTTP/localhost@", "HTTP/elsewhere@");
    refused("another principal");
}

#[test]
fn the_broker_names_a_keytab_that_its_user_may_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let broker = prepared(folder.path());
    let program = folder.path().join("kerbridge");
    copy_program(&find_kerbridge().unwrap(), &program).unwrap();
    let keytab = folder.path().join("http.keytab");
    std::fs::write(&keytab, "unread").unwrap();
    let config = broker.config();
    let check = if rustix::process::geteuid().is_root() {
        // Root can read everything, so it is somebody else who looks: all is theirs but the keytab.
        const NOBODY: u32 = 65534;
        for own in ["", "kerbridge", "kerbridge.toml", "policy.toml", "kek", "state"] {
            chown(folder.path().join(own), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        set_mode(&keytab, 0o600);
        Spawn::new("setpriv", folder.path())
            .args([
                format!("--reuid={NOBODY}"),
                format!("--regid={NOBODY}"),
                "--clear-groups".into(),
            ])
            .arg(&program)
    } else {
        // Nobody else can be had: the keytab is one's own, and its mode keeps even its owner out.
        set_mode(&keytab, 0o000);
        Spawn::new(&program, folder.path())
    };
    let mut check = OwnedProcess::start(check.args(["config", "check", "--config"]).arg(&config)).unwrap();
    let status = check.wait_exit(Duration::from_secs(20)).unwrap();
    let said = check.log();
    assert_eq!(status.code(), Some(78), "{said}");
    let expected = format!(
        "  kerberos.acceptor[0].keytab: {}: Permission denied (os error 13); name a file that the broker's user can read\n",
        keytab.display()
    );
    assert!(said.contains("1 problem in ") && said.contains(&expected), "{said}");
}

#[test]
fn the_broker_does_not_start_where_its_port_or_socket_is_taken() {
    let world = World::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let broker = prepared(folder.path());
    std::fs::copy(world.folder().join("http.keytab"), folder.path().join("http.keytab")).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = std::fs::read_to_string(broker.config()).unwrap();
    let observe = format!("\n[listen.observe]\ntcp = \"127.0.0.1:{port}\"\nclear_text = true\n");
    std::fs::write(broker.config(), config.clone() + &observe).unwrap();
    let (code, said) = serve(&broker);
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("listen.observe") && said.contains(&port.to_string()),
        "{said}"
    );

    // A socket that another broker serves is not taken over.
    let socket = world.folder().join("mesh.sock");
    std::fs::write(
        broker.config(),
        config.replace(&*broker.socket().to_string_lossy(), &socket.to_string_lossy()),
    )
    .unwrap();
    let (code, said) = serve(&broker);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("listen.mesh"), "{said}");
    assert_eq!(world.curl_as("alice", "/orders/1").send().unwrap().status, 200);
}

#[test]
fn the_status_of_a_running_broker_says_how_it_answered_and_without_one_the_command_says_so() {
    let mut world = World::start().unwrap();
    assert_eq!(world.curl_as("alice", "/orders/1").send().unwrap().status, 200);
    let status = world.broker().administer(&["status"], &[]).unwrap();
    assert_eq!(
        (&status["ready"], &status["exchanges"]["ok"]),
        (&"ready".into(), &1.into()),
        "{status}"
    );
    assert_eq!(status["tokens"]["keys"]["keys"][0]["stage"], "signing", "{status}");
    world.broker().stop().unwrap();
    let error = world.broker().administer(&["status"], &[]).unwrap_err().to_string();
    assert!(error.contains("no broker listens there"), "{error}");
}
