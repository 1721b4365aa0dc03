use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};

use super::*;
use crate::channel_bindings::BindingMode;

fn folder() -> Folder {
    let folder = Folder::good();
    for (name, key) in [
        ("one", KeyPair::generate().unwrap()),
        ("edwards", KeyPair::generate_for(&PKCS_ED25519).unwrap()),
    ] {
        let certificate = CertificateParams::new([format!("{name}.test")]).unwrap();
        folder.write(name, certificate.self_signed(&key).unwrap().pem(), 0o644);
        folder.write(&format!("{name}.key"), key.serialize_pem(), 0o600);
    }
    folder
}

fn load(table: &str, public: &str) -> Result<BindingMode, Vec<String>> {
    let folder = folder();
    let listener = match public {
        "" => String::new(),
        name => {
            format!("[listen.public]\ntcp = \"127.0.0.1:9\"\ncertificate = \"{name}\"\nprivate_key = \"{name}.key\"\n")
        }
    };
    let table = format!(
        "{listener}[kerberos.channel_bindings]\n{}\n[keys]",
        table.replace(';', "\n")
    );
    folder.write("kerbridge.toml", GOOD.replace("[keys]", &table), 0o644);
    folder.load().map(|config| config.channel_bindings().mode())
}

fn entry(server_names: &str) -> String {
    format!("[[kerberos.channel_bindings.certificate]];server_names = [{server_names}];")
}

#[test]
fn bindings_are_off_unless_said_otherwise_and_know_their_certificates() {
    let unsaid = Folder::good().load().unwrap();
    assert_eq!(unsaid.channel_bindings().mode(), BindingMode::Off);
    let one = entry("\"*\"") + "file = \"one\"";
    for (table, public, expected) in [
        ("mode = \"off\"".to_owned(), "", BindingMode::Off),
        (format!("mode = \"off\";{one}"), "", BindingMode::Off),
        (
            format!("mode = \"allow\";overlap = \"30d\";{one}"),
            "",
            BindingMode::Allow,
        ),
        (format!("mode = \"require\";{one}"), "", BindingMode::Require),
        // The broker's own certificate is one too; nobody can bind to one of an Edwards curve.
        ("mode = \"require\"".to_owned(), "one", BindingMode::Require),
        (format!("mode = \"allow\";{one}"), "edwards", BindingMode::Allow),
    ] {
        assert_eq!(load(&table, public), Ok(expected), "{table}");
    }
}

#[test]
fn each_mistake_about_bindings_is_named() {
    let file = |name: &str| format!("mode = \"allow\";{}file = \"{name}\"", entry("\"*\""));
    let names = |names: &str| entry(names) + "file = \"one\"";
    let five = (names("\"*\"") + ";").repeat(5);
    for (table, public, expected) in [
        ("mode = \"on\"".to_owned(), "", ".mode: \"on\" is no mode"),
        ("mode = \"allow\"".to_owned(), "", ".certificate: is missing"),
        ("mode = \"allow\"".to_owned(), "edwards", ".certificate: is missing"),
        ("overlap = \"31d\"".to_owned(), "", ".overlap: is longer than 30 days"),
        (names(""), "", ".certificate[0].server_names: is missing"),
        (
            names("\"*\", \"a..b\""),
            "",
            ".certificate[0].server_names[1]: \"a..b\" is no server name",
        ),
        (five, "", ".certificate: has * more than 4 times"),
        (entry("\"*\""), "", ".certificate[0].file: is missing"),
        (file("none"), "", ".certificate[0].file: none: No such file"),
        (
            file("one.key"),
            "",
            ".certificate[0].file: one.key holds no certificate in PEM",
        ),
        (
            file("edwards"),
            "",
            ".certificate[0].file: edwards is signed with an Edwards curve",
        ),
    ] {
        let found = load(&table, public).unwrap_err();
        let expected = format!("kerberos.channel_bindings{expected}");
        assert!(
            found.iter().any(|line| line.starts_with(&expected)),
            "{expected}: {found:#?}"
        );
        assert!(found.iter().all(|line| line.contains("; ")), "no remedy: {found:#?}");
    }
    let found = load("mode = \"require\"", "edwards").unwrap_err();
    let expected = "listen.public.certificate: is signed with an Edwards curve";
    assert!(found[0].starts_with(expected), "{found:#?}");
}

#[test]
fn the_limit_of_failures_has_bounds_and_networks() {
    let with = |lines: &str| {
        let folder = Folder::good();
        let table = format!("[limits]\n{lines}\n[keys]");
        folder.write("kerbridge.toml", GOOD.replace("[keys]", &table), 0o644);
        folder.load().map(|config| config.limits().failures_per_minute)
    };
    assert_eq!(with(""), Ok(300));
    assert_eq!(
        with("failures_per_minute = 0\nshared_sources = [\"10.0.0.0/8\", \"::1\"]"),
        Ok(0)
    );
    for (lines, expected) in [
        (
            "failures_per_minute = -1",
            "limits.failures_per_minute: -1 is not 0 to 1000000",
        ),
        (
            "failures_per_minute = 1000001",
            "limits.failures_per_minute: 1000001 is not",
        ),
        (
            "shared_sources = [\"::1\", \"10.0.0.1/8\"]",
            "limits.shared_sources[1]: \"10.0.0.1/8\" is no network",
        ),
    ] {
        let found = with(lines).unwrap_err();
        assert!(
            found.iter().any(|line| line.starts_with(expected)),
            "{expected}: {found:#?}"
        );
    }
}
