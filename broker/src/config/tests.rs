mod bindings;
mod clients;
mod delegation;
mod documented;
mod groups;
mod keys;
mod secrets;
mod tls;

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

/// Another issuer in the policy, whose tokens are traced to principals.
const TRACED: &str = r#"
[[issuer]]
issuer = "https://idp.test"
audiences = { orders = [] }
jwks = { cluster = "idp" }
[[subject]]
issuer = "https://idp.test"
claim = "upn"
form = "principal"
realms = ["A.TEST"]
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
