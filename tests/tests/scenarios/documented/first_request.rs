//! From a principal to the answer of the service, on an MIT KDC of a page's own.

use std::path::Path;

use kerbridge_tests::document::{Front, Reader, pages_in, walk};
use kerbridge_tests::kdc::Kdc;
use kerbridge_tests::shipped::module;

const PASSWORD: &str = "a password";

/// Somebody on a machine of the realm, who has no tickets yet.
fn reader(folder: &Path, kdc: &Kdc) -> Reader {
    let mut reader = Reader::new(folder).unwrap();
    reader.set("KRB5_CONFIG", kdc.krb5_config());
    reader.set("KRB5_KDC_PROFILE", kdc.kdc_profile());
    reader.set("KRB5CCNAME", folder.join("tickets"));
    reader.knows_the_password(PASSWORD);
    reader.read_as(
        "/etc/envoy/kerbridge_filter.wasm",
        module().unwrap().display().to_string(),
    );
    reader.read_as("/etc/kerbridge", folder.join("etc").display().to_string());
    reader.read_as("target/release/kerbridge", "kerbridge");
    reader
}

fn realm() -> Kdc {
    let kdc = Kdc::start("EXAMPLE.COM").unwrap();
    kdc.add_user("alice", PASSWORD).unwrap();
    kdc
}

#[test]
fn the_page_on_mit_kerberos_leads_to_the_first_protected_request() {
    for (page, blocks) in pages_in(&["mit"]) {
        let kdc = realm();
        let folder = tempfile::tempdir().unwrap();
        let mut reader = reader(folder.path(), &kdc);
        let mut front = Front::prepare(&mut reader, folder.path(), "api.example.com").unwrap();
        let files = folder.path().join("etc");
        let printed = walk(&mut reader, &blocks, &["mit"], &files, |reader, block| {
            front.before(reader, block)
        });
        let printed = printed
            .unwrap_or_else(|error| panic!("{}: {error}", page.display()))
            .concat();
        for told in [
            "aes256-cts-hmac-sha1-96",
            "kerbridge.toml: good",
            "and the keytab opens it",
            "\"x-kerbridge-subject\",\"alice@EXAMPLE.COM\"",
        ] {
            assert!(printed.contains(told), "{}: {told}: {printed}", page.display());
        }
    }
}

#[test]
fn a_keytab_and_the_readme_make_a_broker_that_runs() {
    for (page, blocks) in pages_in(&["keytab"]) {
        let kdc = realm();
        let folder = tempfile::tempdir().unwrap();
        let service = "HTTP/api.example.com";
        kdc.add_service(service).unwrap();
        kdc.extract_keytab(&[service], &folder.path().join("http.keytab"))
            .unwrap();
        let mut reader = reader(folder.path(), &kdc);
        let printed = walk(&mut reader, &blocks, &["keytab"], folder.path(), |_, _| Ok(()));
        let printed = printed
            .unwrap_or_else(|error| panic!("{}: {error}", page.display()))
            .concat();
        assert!(printed.contains("alice@EXAMPLE.COM"), "{}: {printed}", page.display());
    }
}
