//! The commands of the documents, as they stand there: runbooks on a running broker, the page on MIT Kerberos on a KDC of its own.

use std::path::Path;
use std::process::Command;

use kerbridge_tests::World;
use kerbridge_tests::broker::find_kerbridge;
use kerbridge_tests::certificates::Certificates;
use kerbridge_tests::document::{Block, blocks, prints};
use kerbridge_tests::envoy::{is_at_least, validate};
use kerbridge_tests::kdc::Kdc;
use kerbridge_tests::shipped::repository;

/// The blocks of a page that a lab runs, and what they are said to print.
fn page(name: &str) -> Vec<Block> {
    let text = std::fs::read_to_string(repository().join("docs").join(name)).unwrap();
    let mut found = blocks(&text);
    found.retain(|block| block.info.starts_with("sh lab=") || block.info == "text prints");
    found
}

/// Runs a block as a shell does that stops at the first command that fails; what it printed.
fn run(block: &Block, folder: &Path, kdc: &Kdc, alice: Option<&Path>) -> String {
    let program = find_kerbridge().unwrap();
    let programs = program.parent().unwrap().to_string_lossy().into_owned();
    let path = std::env::var("PATH").unwrap();
    let mut shell = Command::new("bash");
    shell
        .args(["-eu", "-o", "pipefail", "-c", &block.text])
        .current_dir(folder)
        .env("PATH", format!("{programs}:/usr/sbin:{path}"))
        .env("KRB5_CONFIG", kdc.krb5_config())
        .env("KRB5_KDC_PROFILE", kdc.kdc_profile())
        .env("LC_ALL", "C")
        .env_remove("KRB5CCNAME");
    if let Some(ccache) = alice {
        shell.env("KRB5CCNAME", ccache);
    }
    let output = shell.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !complaint.contains(" while "),
        "{}\n{}: {printed}{complaint}",
        block.text,
        output.status
    );
    printed
}

#[test]
fn every_step_of_the_runbooks_does_what_it_says() {
    let mut world = World::start().unwrap();
    let folder = world.broker().folder().to_owned();
    let (mut running, mut printed, mut ran) = (true, String::new(), 0);
    for block in page("runbooks.md") {
        match block.info.as_str() {
            "text prints" => assert!(prints(&printed, &block.text), "{}\nwas said, and {printed}", block.text),
            state => {
                let wanted = state == "sh lab=running";
                assert!(wanted || state == "sh lab=stopped", "{state}");
                if wanted && !running {
                    world.broker().start().unwrap();
                } else if running && !wanted {
                    world.broker().stop().unwrap();
                }
                running = wanted;
                printed = run(&block, &folder, world.kdc(), None);
                // Shown where the test fails, and with --nocapture.
                println!("{}\n\n{printed}", block.text);
                ran += 1;
            }
        }
    }
    assert!(ran > 12, "{ran}");
    // After all of it a ticket opens what it opened before.
    if !running {
        world.broker().start().unwrap();
    }
    let answer = world.curl_as("bob", "/orders/1").send().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn the_page_on_mit_kerberos_makes_a_keytab_that_opens_tickets() {
    let kdc = Kdc::start("EXAMPLE.COM").unwrap();
    kdc.add_user("alice", "a password").unwrap();
    let folder = kdc.folder().to_owned();
    let mut ran = 0;
    for block in page("mit-kerberos.md") {
        let printed = run(&block, &folder, &kdc, None);
        assert!(!printed.contains("Unknown"), "{printed}");
        ran += 1;
    }
    assert_eq!(ran, 2);
    let alice = kdc.kinit("alice").unwrap();
    let check = Block {
        info: String::new(),
        text: "kvno -k new.keytab HTTP/api.example.com".to_owned(),
    };
    let printed = run(&check, &folder, &kdc, Some(alice.path()));
    assert!(printed.contains("keytab entry valid"), "{printed}");
    // What the page says next, where the broker would be; none runs here, which the doctor has to say.
    let steps = "kerbridge init --keytab new.keytab --dir kb --issuer https://kerbridge.example.com\n\
                 kerbridge config check --config kb/kerbridge.toml\n\
                 kerbridge doctor --config kb/kerbridge.toml || true";
    let found = run(
        &Block {
            info: String::new(),
            text: steps.to_owned(),
        },
        &folder,
        &kdc,
        None,
    );
    for good in [
        "kb/kerbridge.toml: good",
        "good    ticket HTTP/api.example.com@EXAMPLE.COM: ",
        "and the keytab opens it",
    ] {
        assert!(found.contains(good), "{good}: {found}");
    }
}

/// What of an Envoy configuration a block is, by the words behind its fence, and the line in whose place it comes.
const PARTS: &[(&str, &str)] = &[
    ("yaml", "BLOCK"),
    ("yaml of an http filter", "HTTP_FILTERS"),
    (NEEDS_1_38, "HTTP_FILTERS"),
    ("yaml of a connection manager", "MANAGER"),
    ("yaml of a cluster", "CLUSTERS"),
    ("yaml of a route", "ROUTES"),
    ("yaml of an access log", "ACCESS_LOG"),
    ("yaml of a listener's TLS", "LISTENER_TLS"),
];

/// What an earlier Envoy does not take.
const NEEDS_1_38: &str = "yaml of an http filter, Envoy 1.38";

/// A listener and a cluster, with a line for each part that a block may be.
const AROUND: &str = r#"static_resources:
  listeners:
  - name: https
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          LISTENER_TLS
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: https
          MANAGER
          access_log:
          - name: envoy.access_loggers.stdout
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
              log_format:
                json_format:
                  status: "%RESPONSE_CODE%"
                  ACCESS_LOG
          http_filters:
          HTTP_FILTERS
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              ROUTES
              - match: {prefix: /}
                direct_response: {status: 404}
  clusters:
  CLUSTERS
  - name: kerbridge_broker
    type: STATIC
    load_assignment: {cluster_name: kerbridge_broker}
"#;

const LISTENER_TLS: &str = "common_tls_context: {tls_certificates: [{certificate_chain: {filename: /etc/envoy/tls/tls.crt}, \
                            private_key: {filename: /etc/envoy/tls/tls.key}}]}";

/// A whole configuration of a block, with files that are there in place of those that it names.
fn whole(block: &Block, certificates: &Certificates) -> Option<String> {
    let (_, place) = PARTS.iter().find(|(info, _)| *info == block.info)?;
    let mut yaml = String::new();
    for line in if *place == "BLOCK" { "BLOCK" } else { AROUND }.lines() {
        let word = line.trim_start();
        let indent = line.len().saturating_sub(word.len());
        if word == *place {
            for line in block.text.lines() {
                yaml.push_str(&format!("{:indent$}{line}\n", ""));
            }
        } else if word == "LISTENER_TLS" {
            // A listener has a certificate whatever the block is about.
            yaml.push_str(&format!("{:indent$}{LISTENER_TLS}\n", ""));
        } else if !PARTS.iter().any(|(_, part)| *part == word) {
            yaml.push_str(&format!("{line}\n"));
        }
    }
    for (named, there) in [
        ("/etc/envoy/tls/mesh-ca.crt", &certificates.authority),
        ("clients-ca.crt", &certificates.authority),
        ("/etc/envoy/tls/mesh.crt", &certificates.certificate),
        ("/etc/envoy/tls/mesh.key", &certificates.private_key),
        ("/etc/envoy/tls/tls.crt", &certificates.certificate),
        ("/etc/envoy/tls/tls.key", &certificates.private_key),
    ] {
        yaml = yaml.replace(named, &there.to_string_lossy());
    }
    Some(yaml)
}

#[test]
fn every_envoy_configuration_of_the_documents_is_taken_by_envoy() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::create(folder.path()).unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(repository().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for block in blocks(&text) {
            // A kubeconfig is none of Envoy's.
            if !block.info.starts_with("yaml") || block.info == "yaml of a kubeconfig" {
                continue;
            }
            if block.info == NEEDS_1_38 && !is_at_least(1, 38).unwrap() {
                continue;
            }
            let yaml = whole(&block, &certificates)
                .unwrap_or_else(|| panic!("{}: which part of a configuration is `{}`?", path.display(), block.info));
            if let Err(error) = validate(&yaml) {
                panic!("{}:\n{yaml}\n{error}", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 6, "{seen}");
}
