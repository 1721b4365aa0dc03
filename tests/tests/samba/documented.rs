//! The page on Active Directory, as it stands there, on a domain controller: from an account to the answer of the service.

use kerbridge_tests::document::{Block, Front, Reader, pages_in, walk};
use kerbridge_tests::samba::{PASSWORD, REALM};
use kerbridge_tests::shipped::module;

use crate::samba_domain::domain;

#[test]
#[ignore = "runs a domain controller, as root"]
fn the_page_on_active_directory_leads_to_the_first_protected_request() {
    let domain = domain();
    for (page, blocks) in pages_in(&["samba"]) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("admin.password"), PASSWORD).unwrap();
        let alice = domain.kinit("alice").unwrap();
        let mut reader = Reader::new(folder.path()).unwrap();
        reader.set("SMB_CONF_PATH", domain.folder().join("etc/smb.conf"));
        reader.set("KRB5_CONFIG", domain.folder().join("krb5.conf"));
        reader.set("KRB5CCNAME", alice.path());
        reader.set("LDAPTLS_CACERT", domain.authority());
        reader.set("TDB_NO_FSYNC", "1");
        reader.knows_the_password(PASSWORD);
        let group = domain.sid("order-clerks").unwrap();
        for (written, there) in [
            // Before others, whose places are below it.
            ("/tmp/", "./".to_owned()),
            (
                "/etc/envoy/kerbridge_filter.wasm",
                module().unwrap().display().to_string(),
            ),
            ("/etc/kerbridge", folder.path().join("kb").display().to_string()),
            ("S-1-5-21-1004336348-1177238915-682003330-1104", group.to_owned()),
            ("dc.example.com", domain.address().to_string()),
            ("DC=example,DC=com", "DC=ad,DC=test".to_owned()),
            ("EXAMPLE.COM", REALM.to_owned()),
            ("example.com", "ad.test".to_owned()),
        ] {
            reader.read_as(written, there);
        }
        let mut front = Front::prepare(&mut reader, folder.path(), "api.ad.test").unwrap();
        let files = folder.path().join("kb");
        let printed = walk(&mut reader, &blocks, &["samba"], &files, |reader, block| {
            front.before(reader, block)
        });
        let printed = printed.unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        let commands: Vec<&Block> = blocks.iter().filter(|block| block.lab() == Some("samba")).collect();
        assert_eq!(printed.len(), commands.len());
        if page.ends_with("active-directory.md") {
            let said = printed.concat();
            // The keytab's key, the service behind Envoy who says who came, by ticket and by token, and kvno.
            for told in [
                "aes256-cts-hmac-sha1-96",
                "alice@AD.TEST",
                "HTTP/2 200",
                "keytab entry valid",
            ] {
                assert!(said.contains(told), "{told}: {said}");
            }
            assert_eq!(
                said.matches("\"x-kerbridge-subject\",\"alice@AD.TEST\"").count(),
                2,
                "{said}"
            );
        }
    }
}
