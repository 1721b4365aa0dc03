//! Listeners over TLS, who may come through them, and files that change.

use rcgen::{CertificateParams, KeyPair};

use super::*;

fn folder() -> Folder {
    let folder = Folder::good();
    for name in ["one", "two"] {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([format!("{name}.test")])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        folder.write(&format!("{name}.pem"), certificate.pem(), 0o644);
        folder.write(&format!("{name}.key"), key.serialize_pem(), 0o600);
    }
    folder
}

fn mesh(lines: &str) -> String {
    format!("tcp = \"127.0.0.1:0\"\n{}", lines.replace(';', "\n"))
}

#[test]
fn a_mesh_over_tls_needs_certificate_key_and_client_authority() {
    let folder = folder();
    let good = "certificate = \"one.pem\";private_key = \"one.key\";client_ca = \"two.pem\"";
    folder.write(
        "kerbridge.toml",
        GOOD.replace("unix = \"mesh.sock\"", &mesh(good)),
        0o644,
    );
    assert!(matches!(folder.load().unwrap().mesh().address, Address::Tls { .. }));
    for (from, to, expected) in [
        ("client_ca = \"two.pem\"", "", "listen.mesh.client_ca: is missing"),
        (
            "client_ca = \"two.pem\"",
            "client_ca = \"two.key\"",
            "listen.mesh.client_ca: two.key holds no certificate",
        ),
        ("certificate = \"one.pem\";", "", "listen.mesh.certificate: is missing"),
        ("private_key = \"one.key\";", "", "listen.mesh.private_key: is missing"),
        (
            "one.key",
            "two.key",
            "listen.mesh.private_key: does not go with the certificate",
        ),
        ("one.pem", "none.pem", "listen.mesh.certificate: none.pem"),
        ("one.key", "one.pem", "listen.mesh.private_key: one.pem has mode 0644"),
    ] {
        let found = folder.with("unix = \"mesh.sock\"", &mesh(&good.replace(from, to)));
        assert!(
            found.iter().any(|line| line.starts_with(expected)),
            "{expected}: {found:#?}"
        );
    }
}

#[test]
fn the_clients_of_a_mesh_over_tls_are_listed_or_there_is_a_warning() {
    let folder = folder();
    let good = "certificate = \"one.pem\";private_key = \"one.key\";client_ca = \"two.pem\"";
    let listed = format!("{good};client_names = [\"envoy.test\", \"spiffe://mesh.test/envoy\"]");
    for (lines, warned) in [(good, true), (&listed, false)] {
        let text = GOOD.replace("unix = \"mesh.sock\"", &mesh(lines));
        folder.write("kerbridge.toml", text, 0o644);
        let warnings = folder.load().unwrap().warnings();
        let fields: Vec<&str> = warnings.iter().map(|warning| warning.field.as_str()).collect();
        assert_eq!(fields.contains(&"listen.mesh.client_names"), warned, "{warnings:?}");
    }
    assert_eq!(Folder::good().load().unwrap().warnings(), []);
    for (from, expected) in [
        ("client_names = []", "listen.mesh.client_names: names nobody"),
        (
            "client_names = [\"a\", \"b c\"]",
            "listen.mesh.client_names[1]: \"b c\" cannot be",
        ),
        (
            "client_names = [\"*\"]",
            "listen.mesh.client_names[0]: \"*\" is no client: names are compared as they stand",
        ),
        (
            "client_names = [\"mesh\"]",
            "listen.mesh.client_names[0]: \"mesh\" is what callers of listen.mesh are called that have not said who",
        ),
        (
            "client_name = \"public\"",
            "listen.mesh.client_name: \"public\" is what callers of listen.public are called",
        ),
    ] {
        let found = folder.with("unix = \"mesh.sock\"", &mesh(&format!("{good};{from}")));
        assert!(found[0].starts_with(expected), "{found:#?}");
    }
    let names = "\nclient_names = [\"a\"]";
    for lines in ["unix = \"mesh.sock\"", "tcp = \"127.0.0.1:0\"\nclear_text = true"] {
        let found = folder.with("unix = \"mesh.sock\"", &format!("{lines}{names}"));
        assert!(
            found[0].starts_with("listen.mesh.client_names: is for listen.mesh and listen.public over TLS only"),
            "{found:#?}"
        );
    }
}

#[test]
fn public_asks_for_certificates_where_it_has_an_authority_and_no_address_stands_twice() {
    let folder = folder();
    let public = "unix = \"mesh.sock\"\n[listen.public]\ntcp = \"127.0.0.1:9\"\ncertificate = \"one.pem\"\n\
                  private_key = \"one.key\"";
    folder.write("kerbridge.toml", GOOD.replace("unix = \"mesh.sock\"", public), 0o644);
    assert_eq!(folder.load().unwrap().listeners().count(), 2);
    let more = "client_ca = \"two.pem\"\nclient_names = [\"orders.test\"]";
    folder.write(
        "kerbridge.toml",
        GOOD.replace("unix = \"mesh.sock\"", &format!("{public}\n{more}")),
        0o644,
    );
    let config = folder.load().unwrap();
    let public_listener = config.listeners().find(|one| one.name == ListenerName::Public).unwrap();
    match &public_listener.address {
        Address::Tls { server, .. } => {
            assert!(server.client_names().take("orders.test") && !server.client_names().take("x"));
        }
        other @ (Address::Unix { .. } | Address::Clear { .. }) => panic!("{other}"),
    }
    let observe = "\n[listen.observe]\ntcp = \"127.0.0.1:9\"\nclear_text = true";
    let found = folder.with("unix = \"mesh.sock\"", &format!("{public}{observe}"));
    assert!(
        found[0].starts_with("listen.observe: is at the same address as listen.public"),
        "{found:#?}"
    );
    let found = folder.with("unix = \"mesh.sock\"", &format!("{public}\nclient_name = \"x\""));
    assert!(found[0].starts_with("listen.public.client_name: "), "{found:#?}");
}

#[test]
fn the_admin_listener_is_a_socket_for_its_owner_and_nothing_else() {
    let folder = folder();
    let admin = |more: &str| format!("unix = \"mesh.sock\"\n[listen.admin]\n{more}");
    folder.write(
        "kerbridge.toml",
        GOOD.replace("unix = \"mesh.sock\"", &admin("unix = \"admin.sock\"")),
        0o644,
    );
    let config = folder.load().unwrap();
    let address = config
        .listeners()
        .find(|listener| listener.name == ListenerName::Admin)
        .map(|listener| &listener.address);
    assert!(
        matches!(address, Some(Address::Unix { mode: 0o600, .. })),
        "{address:?}"
    );
    for wrong in [
        "",
        "tcp = \"127.0.0.1:9\"\nclear_text = true",
        "unix = \"admin.sock\"\nmode = \"0660\"",
        "unix = \"admin.sock\"\ntcp = \"127.0.0.1:9\"",
    ] {
        let found = folder.with("unix = \"mesh.sock\"", &admin(wrong));
        assert!(
            found[0].starts_with("listen.admin: is a Unix socket of mode 0600"),
            "{found:#?}"
        );
    }
    let found = folder.with(
        "unix = \"mesh.sock\"",
        &admin("unix = \"admin.sock\"\nclient_name = \"x\""),
    );
    assert!(found[0].starts_with("listen.admin.client_name: "), "{found:#?}");
    let found = folder.with("unix = \"mesh.sock\"", &admin("unix = \"mesh.sock\""));
    assert!(
        found[0].starts_with("listen.admin: is at the same address as listen.mesh"),
        "{found:#?}"
    );
}

#[test]
fn files_that_change_are_taken_when_they_are_good_and_belong_together() {
    let folder = folder();
    let good = "certificate = \"one.pem\";private_key = \"one.key\";client_ca = \"two.pem\"";
    let text = GOOD.replace("unix = \"mesh.sock\"", &mesh(good));
    folder.write("kerbridge.toml", text, 0o644);
    let config = folder.load().unwrap();
    let Address::Tls { server, .. } = &config.mesh().address else {
        panic!("tls")
    };
    let read = |name: &str| fs::read_to_string(folder.0.path().join(name)).unwrap();
    let (one, two, key) = (server.certificate(), read("two.pem"), read("two.key"));
    let before = server.current();
    server.look();
    assert!(
        std::sync::Arc::ptr_eq(&before, &server.current()),
        "nothing has changed"
    );
    let ((half, _), (half_key, _)) = (two.split_at(two.len() / 2), key.split_at(key.len() / 2));
    for (name, content, mode) in [
        ("one.pem", half, 0o644),
        ("one.pem", "", 0o644),
        // The other half of the pair is not there yet.
        ("one.pem", two.as_str(), 0o644),
        ("one.key", half_key, 0o600),
        ("one.key", key.as_str(), 0o644),
    ] {
        folder.write(name, content, mode);
        server.look();
        assert!(std::sync::Arc::ptr_eq(&before, &server.current()), "{content}");
    }
    // The content is the same, but now nobody else can read it.
    folder.write("one.key", &key, 0o600);
    server.look();
    assert_ne!(server.certificate(), one);
    // An authority that is none: the rest is good, and yet nothing is taken.
    let before = server.current();
    folder.write("two.pem", half, 0o644);
    server.look();
    fs::remove_file(folder.0.path().join("one.pem")).unwrap();
    server.look();
    assert!(std::sync::Arc::ptr_eq(&before, &server.current()));
}
