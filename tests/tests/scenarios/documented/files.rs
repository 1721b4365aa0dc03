//! Pages about files: commands that ask nobody, on the files that the page itself shows.

use kerbridge_tests::broker::{Broker, BrokerSettings};
use kerbridge_tests::document::{Reader, pages_in, walk};
use kerbridge_tests::shipped::{self, ISSUER, module};

/// A policy without a service that speaks Kerberos only, for what cannot have one.
const SMALL: &str = "[[audience]]\nname = \"orders\"\n\
                     [[grant]]\nprincipals = [\"*@EXAMPLE.COM\"]\naudience = \"orders\"\n\
                     [[route]]\npath_prefix = \"/orders\"\naccept = [\"negotiate\", \"bearer\"]\naudience = \"orders\"\n";

#[test]
fn every_command_that_needs_files_alone_answers_as_it_says() {
    for (page, blocks) in pages_in(&["files"]) {
        let policy = match page.ends_with("kubernetes.md") {
            true => SMALL.to_owned(),
            false => shipped::policy_of_a_minter(shipped::HOST, shipped::REALM).unwrap(),
        };
        let folder = tempfile::tempdir().unwrap();
        let settings = BrokerSettings {
            issuer: ISSUER.to_owned(),
            realms: ["EXAMPLE.COM", "PARTNER.ORG"].map(str::to_owned).to_vec(),
            acceptors: vec!["HTTP/api.example.com@EXAMPLE.COM".to_owned()],
            keytab: folder.path().join("http.keytab"),
            policy,
            more: String::new(),
        };
        Broker::prepare(folder.path(), &settings).unwrap();
        let mut reader = Reader::new(folder.path()).unwrap();
        reader.read_as(
            "/etc/envoy/kerbridge_filter.wasm",
            module().unwrap().display().to_string(),
        );
        reader.read_as("/etc/kerbridge/kerbridge.toml", "kerbridge.toml");
        let printed = walk(&mut reader, &blocks, &["files"], folder.path(), |_, _| Ok(()));
        let printed = printed.unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        assert!(!printed.is_empty(), "{}", page.display());
    }
}
