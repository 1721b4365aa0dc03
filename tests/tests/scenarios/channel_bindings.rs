//! Channel bindings in a TLS lab: clients that bind, bind to another server and do not bind, and certificates that are
//! replaced while all serve.

use std::path::Path;
use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::certificates::{SelfSigned, fingerprint};
use kerbridge_tests::http::{Connection, Request, Response};
use kerbridge_tests::tls::{self, TlsStream};
use kerbridge_tests::token::decode;
use kerbridge_tests::wait::wait_until;
use kerbridge_tests::world::SERVICE;

/// The certificate that the lab's Envoy shows stands beside `kerbridge.toml`.
fn rules(mode: &str, server_name: &str) -> String {
    format!(
        "[kerberos.channel_bindings]\nmode = \"{mode}\"\n\
         [[kerberos.channel_bindings.certificate]]\nserver_names = [\"{server_name}\"]\nfile = \"listener.pem\""
    )
}

fn request(token: &str) -> Request {
    Request::get("/orders/1").header("authorization", format!("Negotiate {token}"))
}

/// What came of a request: `bound` or `unbound` as the token says, or the reason of the refusal.
fn outcome(world: &World, answer: &Response) -> String {
    if answer.status != 200 {
        let refusal = world.refusal(answer.status, &answer.body).unwrap();
        return format!("{} {}", refusal.status, refusal.reason);
    }
    let token = answer.header_text("x-kerbridge-token").unwrap();
    match decode(&token).unwrap().claims["kerbridge_cb"].as_bool() {
        Some(true) => "bound".to_owned(),
        Some(false) => "unbound".to_owned(),
        None => "no claim".to_owned(),
    }
}

fn send(world: &World, token: &str) -> String {
    outcome(world, &world.send(&request(token)).unwrap())
}

#[test]
fn each_mode_takes_the_clients_that_it_says() {
    const MISMATCH: &str = "401 channel_binding_mismatch";
    const MISSING: &str = "401 channel_binding_missing";
    for (mode, right, wrong, none) in [
        ("off", "unbound", "unbound", "unbound"),
        ("allow", "bound", MISMATCH, "unbound"),
        ("require", "bound", MISMATCH, MISSING),
    ] {
        let world = World::builder()
            .broker_table(&rules(mode, "localhost"))
            .start()
            .unwrap();
        let certificate = fingerprint(&world.certificates().certificate, "sha256").unwrap();
        let another = fingerprint(&world.certificates().authority, "sha256").unwrap();
        let token = |hash: &[u8]| world.bound_token("alice", hash).unwrap();
        assert_eq!(send(&world, &token(&certificate)), right, "{mode}: right");
        assert_eq!(send(&world, &token(&another)), wrong, "{mode}: wrong");
        let unbound = world.negotiate_token("alice", SERVICE).unwrap();
        assert_eq!(send(&world, &unbound), none, "{mode}: none");
        // This curl does not bind; its Kerberos library could.
        let curl = world.curl_as("alice", "/orders/1").send().unwrap();
        assert_eq!(curl.status == 200, mode != "require", "{mode}: {}", curl.text());
        // What was refused for its channel is used up, and what was not is a replay.
        if mode == "require" {
            let wrong = token(&another);
            assert_eq!(send(&world, &wrong), MISMATCH);
            assert_eq!(send(&world, &wrong), "401 replay");
        }
    }
}

#[test]
fn by_a_server_name_without_a_certificate_nobody_gets_in_who_is_bound_to_something_else() {
    for (mode, expected) in [
        ("allow", "401 channel_binding_mismatch"),
        ("require", "401 channel_binding_missing"),
    ] {
        let table = rules(mode, "*.example.com");
        let mut world = World::builder().broker_table(&table).start().unwrap();
        let certificate = fingerprint(&world.certificates().certificate, "sha256").unwrap();
        let token = world.bound_token("alice", &certificate).unwrap();
        assert_eq!(send(&world, &token), expected, "{mode}");
        if mode == "allow" {
            let unbound = world.negotiate_token("alice", SERVICE).unwrap();
            assert_eq!(send(&world, &unbound), "unbound");
        }
        let named = "no certificate is configured for the server name that the client asked for: localhost";
        let broker = world.broker();
        let log = if mode == "require" {
            broker.logged(named)
        } else {
            broker.log()
        };
        assert_eq!(log.contains(named), mode == "require", "{log}");
    }
}

/// Envoy's certificate by a file that Envoy watches, as certificate managers use it (SDS from a file).
const SECRET: &str = r#"resources:
- "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
  name: listener
  tls_certificate:
    certificate_chain: {filename: CERTIFICATE}
    private_key: {filename: KEY}
"#;

/// Puts a text into a file by a rename, as certificate managers do.
fn put(path: &Path, text: &str) {
    let next = path.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, path).unwrap();
}

fn show(secret: &Path, certificate: &SelfSigned) {
    let text = SECRET
        .replace("CERTIFICATE", certificate.certificate.to_str().unwrap())
        .replace("KEY", certificate.private_key.to_str().unwrap());
    put(secret, &text);
}

/// A world whose Envoy shows `first` until another is shown.
fn world_showing(folder: &Path, first: &SelfSigned, table: &str) -> World {
    let secret = folder.join("secret.yaml");
    show(&secret, first);
    let source = format!(
        "- {{name: listener, sds_config: {{path_config_source: {{path: {}}}}}}}",
        secret.display()
    );
    World::builder()
        .broker_table(table)
        .yaml(move |yaml| {
            yaml.replace(
                "\nstatic_resources:",
                "\nnode: {id: lab, cluster: lab}\nstatic_resources:",
            )?;
            yaml.remove_block("tls_certificates:")?;
            yaml.insert_below("tls_params:", &["tls_certificate_sds_secret_configs:", source.as_str()])
        })
        .start()
        .unwrap()
}

fn connect(world: &World, to: &SelfSigned) -> Option<Connection<TlsStream>> {
    let mut connection = tls::connect(world.port(), &to.certificate).ok()?;
    // Only the server that shows this very certificate completes the handshake.
    let answer = connection.exchange(&Request::get("/orders/1")).ok()?;
    (answer.status == 401).then_some(connection)
}

fn wait_for(world: &World, certificate: &SelfSigned) -> Connection<TlsStream> {
    let mut connected = None;
    wait_until("the new certificate", Duration::from_secs(20), || {
        connected = connect(world, certificate);
        connected.is_some()
    })
    .unwrap();
    connected.unwrap()
}

fn text(certificate: &SelfSigned) -> String {
    std::fs::read_to_string(&certificate.certificate).unwrap()
}

#[test]
fn a_certificate_is_replaced_while_all_serve_and_no_bound_client_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str| SelfSigned::create(folder.path(), name, "P-256", "sha256").unwrap();
    let (old, new) = (make("old"), make("new"));
    let [of_old, of_new] = [&old, &new].map(|one| fingerprint(&one.certificate, "sha256").unwrap());
    let copy = folder.path().join("copy.pem");
    put(&copy, &text(&old));
    let table = format!(
        "[kerberos.channel_bindings]\nmode = \"require\"\n\
         [[kerberos.channel_bindings.certificate]]\nserver_names = [\"*\"]\nfile = \"{}\"",
        copy.display()
    );
    let mut world = world_showing(folder.path(), &old, &table);
    let mut before = wait_for(&world, &old);
    let ask = |world: &World, connection: &mut Connection<TlsStream>, hash: &[u8]| {
        let token = world.bound_token("alice", hash).unwrap();
        outcome(world, &connection.exchange(&request(&token)).unwrap())
    };
    assert_eq!(ask(&world, &mut before, &of_old), "bound");

    // The broker's copy first: both count from now on, and Envoy may follow when it likes.
    put(&copy, &text(&new));
    assert_eq!(ask(&world, &mut before, &of_old), "bound");
    show(&folder.path().join("secret.yaml"), &new);
    let mut after = wait_for(&world, &new);
    for _ in 0..3 {
        assert_eq!(ask(&world, &mut after, &of_new), "bound");
        // A connection keeps the certificate that it began with.
        assert_eq!(ask(&world, &mut before, &of_old), "bound");
    }
    // Neither counts for what is bound elsewhere, and nothing passes twice.
    let elsewhere = fingerprint(&world.certificates().authority, "sha256").unwrap();
    assert_eq!(ask(&world, &mut after, &elsewhere), "401 channel_binding_mismatch");
    let twice = world.bound_token("alice", &of_old).unwrap();
    for expected in ["bound", "401 replay"] {
        let answer = before.exchange(&request(&twice)).unwrap();
        assert_eq!(outcome(&world, &answer), expected);
    }

    // A file that is cut off changes nothing and is named.
    put(&copy, text(&new).get(..100).unwrap());
    assert_eq!(ask(&world, &mut after, &of_new), "bound");
    assert_eq!(ask(&world, &mut before, &of_old), "bound");
    let log = world.broker().logged("the certificate is kept as it was");
    assert!(
        log.contains("the certificate is kept as it was") && log.contains("copy.pem"),
        "{log}"
    );
    assert!(log.contains("\"channel_bound\":true"), "{log}");
}

#[test]
fn the_hash_is_that_of_the_certificates_signature() {
    let folder = tempfile::tempdir().unwrap();
    let made: Vec<(SelfSigned, &str)> = [
        ("rsa:2048", "sha256"),
        ("rsa:2048", "sha384"),
        ("rsa:2048", "sha512"),
        ("P-256", "sha256"),
        ("P-256", "sha384"),
        ("P-384", "sha384"),
    ]
    .into_iter()
    .enumerate()
    .map(|(index, (key, hash))| {
        let certificate = SelfSigned::create(folder.path(), &format!("certificate-{index}"), key, hash).unwrap();
        (certificate, hash)
    })
    .collect();
    let copy = folder.path().join("copy.pem");
    put(&copy, &text(&made[0].0));
    let table = format!(
        "[kerberos.channel_bindings]\nmode = \"require\"\n\
         [[kerberos.channel_bindings.certificate]]\nserver_names = [\"localhost\"]\nfile = \"{}\"",
        copy.display()
    );
    let world = world_showing(folder.path(), &made[0].0, &table);
    for (certificate, hash) in &made {
        put(&copy, &text(certificate));
        show(&folder.path().join("secret.yaml"), certificate);
        let mut connection = wait_for(&world, certificate);
        let bound_by = |hash: &str| {
            let hash = fingerprint(&certificate.certificate, hash).unwrap();
            world.bound_token("alice", &hash).unwrap()
        };
        let answer = connection.exchange(&request(&bound_by(hash))).unwrap();
        assert_eq!(outcome(&world, &answer), "bound", "{certificate:?}");
        // The same certificate by another hash is another channel.
        let other = if *hash == "sha256" { "sha384" } else { "sha256" };
        let answer = connection.exchange(&request(&bound_by(other))).unwrap();
        assert_eq!(
            outcome(&world, &answer),
            "401 channel_binding_mismatch",
            "{certificate:?}"
        );
    }
}
