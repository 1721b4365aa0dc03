mod bindings;
mod clients;
mod delegation;
mod groups;
mod keys;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;

/// A folder with a configuration that is good until a test changes something.
struct Folder(TempDir);

const GOOD: &str = r#"
issuer = "https://broker.test"
state_dir = "state"
policy_file = "policy.toml"
[listen.mesh]
unix = "mesh.sock"
[kerberos]
realms = ["A.TEST"]
[[kerberos.acceptor]]
principal = "HTTP/api.test@A.TEST"
keytab = "http.keytab"
[keys]
key_encryption_key_file = "kek"
"#;

const POLICY: &str = r#"
[[audience]]
name = "orders"
[[grant]]
principals = ["*@A.TEST"]
audience = "orders"
[[route]]
path_prefix = "/"
accept = ["negotiate"]
audience = "orders"
"#;

/// A keytab (format 0x0502) with one key of 32 zero bytes.
fn keytab(components: &[&str], realm: &str, enctype: u16) -> Vec<u8> {
    let mut entry = u16::try_from(components.len()).unwrap().to_be_bytes().to_vec();
    for part in std::iter::once(&realm).chain(components) {
        entry.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
        entry.extend(part.as_bytes());
    }
    entry.extend([0, 0, 0, 1, 0, 0, 0, 0, 7]);
    entry.extend(enctype.to_be_bytes());
    entry.extend([0, 32]);
    entry.extend([0; 32]);
    let length = u32::try_from(entry.len()).unwrap().to_be_bytes();
    [&[5, 2][..], &length, &entry].concat()
}

impl Folder {
    fn good() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("kerbridge.toml", GOOD, 0o644);
        folder.write("policy.toml", POLICY, 0o644);
        folder.write("kek", "A".repeat(43), 0o600);
        folder.write("http.keytab", keytab(&["HTTP", "api.test"], "A.TEST", 18), 0o600);
        folder
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn load(&self) -> Result<Config, Vec<String>> {
        self.load_in(&Surroundings::default())
    }

    fn load_in(&self, surroundings: &Surroundings) -> Result<Config, Vec<String>> {
        Config::load(&self.0.path().join("kerbridge.toml"), surroundings).map_err(|problems| {
            assert!(!problems.is_empty());
            let folder = format!("{}/", self.0.path().display());
            problems
                .iter()
                .map(|problem| problem.to_string().replace(&folder, ""))
                .collect()
        })
    }

    fn problems(&self) -> Vec<String> {
        self.load().map(drop).unwrap_err()
    }

    /// The problems after one text of the good configuration is replaced.
    fn with(&self, from: &str, to: &str) -> Vec<String> {
        assert_eq!(GOOD.matches(from).count(), 1, "{from}");
        self.write("kerbridge.toml", GOOD.replace(from, to), 0o644);
        self.problems()
    }
}

fn changed(from: &str, to: &str) -> Vec<String> {
    Folder::good().with(from, to)
}

#[test]
fn a_good_configuration_is_read_with_its_defaults() {
    let folder = Folder::good();
    let config = folder.load().unwrap();
    assert_eq!(config.issuer(), "https://broker.test");
    assert_eq!(config.state_dir(), folder.0.path().join("state"));
    assert_eq!(config.kerberos().clock_skew_seconds, 300);
    assert_eq!(config.kerberos().acceptors.len(), 1);
    assert_eq!(config.log_level(), LevelFilter::INFO);
    let limits = config.limits();
    assert_eq!((limits.threads, limits.queue, limits.connections), (2, 256, 1024));
    assert!(config.replay_store());
    assert_eq!((limits.deadline.as_millis(), limits.ticket_floor.seconds()), (1500, 5));
    let [mesh] = config.listeners().collect::<Vec<_>>()[..] else {
        panic!("one listener")
    };
    assert_eq!(mesh.client_name, "mesh");
    assert!(matches!(&mesh.address, Address::Unix { mode: 0o660, path } if *path == folder.0.path().join("mesh.sock")));
    assert!(!folder.0.path().join("state").exists(), "loading made something");
}

#[test]
fn each_mistake_is_named_with_field_and_remedy() {
    for (from, to, expected) in [
        (
            "issuer =",
            "isuer =",
            "isuer: unknown field `isuer` (line 2); expected one of `issuer`,",
        ),
        (
            "issuer = \"https://broker.test\"",
            "",
            "issuer: is missing; write an https URL",
        ),
        (
            "https://broker.test",
            "http://broker.test",
            "issuer: \"http://broker.test\" is no issuer; write an https URL",
        ),
        (
            "https://broker.test",
            "https://broker.test?x",
            "issuer: \"https://broker.test?x\" is no issuer",
        ),
        ("https://broker.test", "https://", "issuer: \"https://\" is no issuer"),
        (
            "\"https://broker.test\"",
            "5",
            "issuer: invalid type: integer `5`, expected a string (line 2); correct it",
        ),
        ("state_dir = \"state\"", "", "state_dir: is missing"),
        ("\"state\"", "\"a/state\"", "state_dir: a/state: No such file"),
        ("\"state\"", "\"a:b\"", "state_dir: a:b holds a colon"),
        ("\"state\"", "\"kek\"", "state_dir: kek is no folder"),
        ("policy_file = \"policy.toml\"", "", "policy_file: is missing"),
        ("policy.toml", "none.toml", "policy_file: none.toml: No such file"),
        (
            "[listen.mesh]\nunix = \"mesh.sock\"",
            "",
            "listen.mesh: is missing; add [listen.mesh]",
        ),
        ("unix = \"mesh.sock\"", "", "listen.mesh: has neither unix nor tcp"),
        (
            "unix = \"mesh.sock\"",
            "unix = \"m\"\ntcp = \"127.0.0.1:1\"",
            "listen.mesh: has both unix and tcp",
        ),
        ("mesh.sock", "run/mesh.sock", "listen.mesh.unix: run is no folder"),
        (
            "\"mesh.sock\"",
            "\"mesh.sock\"\nmode = \"0777x\"",
            "listen.mesh.mode: \"0777x\" is no mode",
        ),
        (
            "\"mesh.sock\"",
            "\"mesh.sock\"\nclear_text = true",
            "listen.mesh: has fields of TCP beside unix",
        ),
        (
            "unix = \"mesh.sock\"",
            "tcp = \"127.0.0.1:1\"",
            "listen.mesh: has tcp without TLS",
        ),
        (
            "unix = \"mesh.sock\"",
            "tcp = \"localhost:1\"\nclear_text = true",
            "listen.mesh.tcp: \"localhost:1\" is no address",
        ),
        (
            "unix = \"mesh.sock\"",
            "tcp = \"0.0.0.0:1\"\nclear_text = true",
            "listen.mesh.clear_text: 0.0.0.0:1 is not loopback",
        ),
        ("realms = [\"A.TEST\"]", "", "kerberos.realms: is missing"),
        (
            "[\"A.TEST\"]",
            "[\"A.TEST\", \"a }\"]",
            "kerberos.realms[1]: \"a }\" is no realm",
        ),
        (
            "[\"A.TEST\"]",
            "[\"B.TEST\"]",
            "kerberos.acceptor[0].principal: realm \"A.TEST\" is not in kerberos.realms",
        ),
        (
            "[\"A.TEST\"]",
            "[\"A.TEST\"]\nclock_skew_seconds = 0",
            "kerberos.clock_skew_seconds: is not 1 to 3600",
        ),
        (
            "[\"A.TEST\"]",
            "[\"A.TEST\"]\nweak_enctypes = [\"arcfour-hmac\", \"des-cbc-md5\"]",
            "kerberos.weak_enctypes[1]: \"des-cbc-md5\" is no weak encryption type that could be taken; write \"des3-cbc-sha1\" \
             or \"arcfour-hmac\", or",
        ),
        (
            "HTTP/api.test@A.TEST",
            "HTTP/api.test",
            "kerberos.acceptor[0].principal: \"HTTP/api.test\":",
        ),
        (
            "HTTP/api.test@A.TEST",
            "HTTP@api.test",
            "kerberos.acceptor[0].principal: \"HTTP@api.test\": a service principal has the form service/host@REALM; write",
        ),
        (
            "HTTP/api.test@A.TEST",
            "alice@A.TEST",
            "kerberos.acceptor[0].principal: \"alice@A.TEST\": a service principal",
        ),
        (
            "HTTP/api.test@A.TEST",
            "HTTP/www.test@A.TEST",
            "kerberos.acceptor[0].principal: http.keytab has no key of HTTP/www.test@A.TEST; it holds HTTP/api.test@A.TEST; \
             name one of those",
        ),
        (
            "\"http.keytab\"",
            "\"none.keytab\"",
            "kerberos.acceptor[0].keytab: none.keytab: No such file",
        ),
        (
            "\"http.keytab\"",
            "\"kek\"",
            "kerberos.acceptor[0].keytab: kek: the file is not a keytab",
        ),
        (
            "key_encryption_key_file = \"kek\"",
            "",
            "keys.key_encryption_key_file: is missing; make one:",
        ),
        (
            "\"kek\"",
            "\"none\"",
            "keys.key_encryption_key_file: none: No such file",
        ),
        (
            "\"kek\"",
            "\"kek\"\nkey_encryption_credential = \"k\"",
            "keys: has both a file and a credential",
        ),
        (
            "key_encryption_key_file",
            "key_encryption_credential",
            "keys.key_encryption_credential: CREDENTIALS_DIRECTORY",
        ),
        (
            "[keys]",
            "[limits]\nthreads = 0\n[keys]",
            "limits.threads: 0 is not 1 to 256",
        ),
        ("[keys]", "[limits]\ndeadline = 2\n[keys]", "limits.deadline: "),
        ("[keys]", "[replay]\nstore = \"no\"\n[keys]", "replay.store: "),
        (
            "[keys]",
            "[log]\nlevel = \"loud\"\n[keys]",
            "log.level: \"loud\" is no level",
        ),
    ] {
        let found = changed(from, to);
        let expected = expected.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            found.iter().any(|line| line.starts_with(&expected)),
            "{expected}: {found:#?}"
        );
        assert!(found.iter().all(|line| line.contains("; ")), "no remedy: {found:#?}");
    }
}

#[test]
fn what_is_wrong_is_all_said_at_once_and_nothing_twice() {
    let folder = Folder::good();
    folder.write(
        "kerbridge.toml",
        r#"
        issuer = 5
        colour = "red"
        state_dir = "none/state"
        policy_file = "none.toml"
        [listen.public]
        tcp = "nowhere"
        [kerberos]
        realms = "A.TEST"
        [[kerberos.acceptor]]
        principal = "x"
        keytab = "none.keytab"
        [keys]
        key_encryption_key_file = "none"
        [log]
        level = "loud"
        "#,
        0o644,
    );
    let found = folder.problems();
    let fields: Vec<&str> = found.iter().map(|line| line.split(": ").next().unwrap()).collect();
    let mut expected = [
        "issuer",
        "colour",
        "kerberos.realms",
        "state_dir",
        "listen.mesh",
        "listen.public.tcp",
        "listen.public",
        "kerberos.acceptor[0].principal",
        "kerberos.acceptor[0].keytab",
        "keys.key_encryption_key_file",
        "log.level",
        "policy_file",
    ];
    let mut fields = fields.clone();
    fields.sort_unstable();
    expected.sort_unstable();
    assert_eq!(fields, expected, "{found:#?}");
}

#[test]
fn a_weak_key_is_taken_where_its_type_is_named() {
    let folder = Folder::good();
    folder.write("http.keytab", keytab(&["HTTP", "api.test"], "A.TEST", 23), 0o600);
    let named = |names: &str| GOOD.replace("[\"A.TEST\"]", &format!("[\"A.TEST\"]\nweak_enctypes = {names}"));
    folder.write("kerbridge.toml", named("[\"arcfour-hmac\", \"arcfour-hmac\"]"), 0o644);
    assert_eq!(folder.load().unwrap().kerberos().weak_enctypes.len(), 1);
    folder.write("kerbridge.toml", named("[\"des3-cbc-sha1\"]"), 0o644);
    let found = folder.problems();
    assert!(
        found[0].starts_with("kerberos.acceptor[0].keytab: http.keytab holds only DES or RC4"),
        "{found:?}"
    );
}

#[test]
fn secrets_that_others_can_reach_are_refused() {
    for (name, content, mode, expected) in [
        (
            "kek",
            b"A".repeat(43),
            0o640,
            "keys.key_encryption_key_file: kek has mode 0640",
        ),
        (
            "kek",
            b"A".repeat(43),
            0o604,
            "keys.key_encryption_key_file: kek has mode 0604",
        ),
        (
            "kek",
            b"AAAA".to_vec(),
            0o600,
            "keys.key_encryption_key_file: kek does not hold 32 bytes",
        ),
        (
            "http.keytab",
            keytab(&["HTTP", "api.test"], "A.TEST", 18),
            0o644,
            "kerberos.acceptor[0].keytab: http.keytab has mode 0644",
        ),
        (
            "http.keytab",
            keytab(&["HTTP", "api.test"], "A.TEST", 18),
            0o660,
            "kerberos.acceptor[0].keytab: http.keytab has mode 0660",
        ),
        (
            "http.keytab",
            keytab(&["HTTP", "api.test"], "A.TEST", 23),
            0o600,
            "kerberos.acceptor[0].keytab: http.keytab holds only DES or RC4",
        ),
        (
            "http.keytab",
            vec![5, 2, 0, 0, 0, 9, 0],
            0o600,
            "kerberos.acceptor[0].keytab: http.keytab: the keytab is cut off",
        ),
    ] {
        let folder = Folder::good();
        folder.write(name, content, mode);
        let found = folder.problems();
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with(expected), "{expected}: {found:#?}");
        assert!(!found[0].contains("AAAA"), "{found:#?}");
    }
    let folder = Folder::good();
    folder.write("http.keytab", keytab(&["HTTP", "api.test"], "A.TEST", 18), 0o640);
    assert!(folder.load().is_ok(), "a keytab for a group");
}

#[test]
fn a_state_directory_that_others_can_reach_is_refused() {
    let folder = Folder::good();
    let state = folder.0.path().join("state");
    prepare_state_dir(&state).unwrap();
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(folder.load().is_ok());
    fs::set_permissions(&state, fs::Permissions::from_mode(0o750)).unwrap();
    assert!(folder.problems()[0].starts_with("state_dir: state has mode 0750"));
}

#[test]
fn the_key_may_come_as_a_credential_of_systemd() {
    let folder = Folder::good();
    let text = GOOD.replace(
        "key_encryption_key_file = \"kek\"",
        "key_encryption_credential = \"kek\"",
    );
    folder.write("kerbridge.toml", &text, 0o644);
    let surroundings = Surroundings {
        credentials_directory: Some(folder.0.path().to_owned()),
    };
    assert!(folder.load_in(&surroundings).is_ok());
    folder.write("kerbridge.toml", text.replace("\"kek\"", "\"../kek\""), 0o644);
    let found = folder.load_in(&surroundings).map(drop).unwrap_err();
    assert!(
        found[0].starts_with("keys.key_encryption_credential: \"../kek\" is no credential"),
        "{found:#?}"
    );
}

#[test]
fn mistakes_of_the_policy_carry_its_name() {
    let folder = Folder::good();
    folder.write(
        "policy.toml",
        POLICY.replace("*@A.TEST", "*@C.TEST").replace("[[route]]", "[[rout]]"),
        0o644,
    );
    let found = folder.problems();
    assert!(
        found[0].starts_with("policy.toml: rout: unknown field `rout` (line 7)"),
        "{found:#?}"
    );
    assert!(
        found
            .iter()
            .any(|line| line.starts_with("policy.toml: route: there is none")),
        "{found:#?}"
    );
    folder.write("policy.toml", POLICY.replace("*@A.TEST", "*@C.TEST"), 0o644);
    let found = folder.problems();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("policy.toml: grant[0].principals[0]: realm \"C.TEST\" is not in kerberos.realms"));
}

#[test]
fn the_policy_alone_is_read_without_keytab_and_keys() {
    let folder = Folder::good();
    for name in ["kek", "http.keytab"] {
        fs::remove_file(folder.0.path().join(name)).unwrap();
    }
    let config = PolicyConfig::load(&folder.0.path().join("kerbridge.toml")).unwrap();
    assert_eq!(config.issuer(), "https://broker.test");
    assert_eq!(config.policy_file().route.len(), 1);
}

mod tls {
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
}
