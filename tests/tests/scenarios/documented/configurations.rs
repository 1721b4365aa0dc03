//! The Envoy configurations of the documents: each is whole, or a part that has its place in one.

use kerbridge_tests::certificates::Certificates;
use kerbridge_tests::document::{Block, blocks, pages, text_of};
use kerbridge_tests::envoy::{is_at_least, validate};

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
    for page in pages() {
        for block in blocks(&text_of(&page)) {
            // A kubeconfig is none of Envoy's.
            if !block.info.starts_with("yaml") || block.info == "yaml of a kubeconfig" {
                continue;
            }
            if block.info == NEEDS_1_38 && !is_at_least(1, 38).unwrap() {
                continue;
            }
            let yaml = whole(&block, &certificates)
                .unwrap_or_else(|| panic!("{}: which part of a configuration is `{}`?", page.display(), block.info));
            if let Err(error) = validate(&yaml) {
                panic!("{}:\n{yaml}\n{error}", page.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 6, "{seen}");
}
