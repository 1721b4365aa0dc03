//! What `serve` refuses before it opens anything, `config check` refuses in the same words.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::fixture::{Folder, Serving, text};

/// What is changed in a folder that is good.
enum Change {
    /// In `kerbridge.toml`, a text by another.
    Config(&'static str, &'static str),
    /// Behind `kerbridge.toml`.
    More(&'static str),
    /// Behind `policy.toml`.
    Policy(&'static str),
    /// A file of the folder: its contents and mode.
    File(&'static str, &'static str, u32),
}

use Change::{Config, File, More, Policy};

impl Change {
    fn make(&self, folder: &Folder) {
        let (config, policy) = (folder.path("made/kerbridge.toml"), folder.path("made/policy.toml"));
        match self {
            Config(from, to) => {
                let before = fs::read_to_string(&config).unwrap();
                assert_eq!(before.matches(from).count(), 1, "{from}");
                fs::write(config, before.replace(from, to)).unwrap();
            }
            More(more) => fs::write(&config, fs::read_to_string(&config).unwrap() + more).unwrap(),
            Policy(more) => fs::write(&policy, fs::read_to_string(&policy).unwrap() + more).unwrap(),
            File(name, contents, mode) => {
                let path = folder.path("made").join(name);
                let parent = path.parent().unwrap();
                if !parent.is_dir() {
                    fs::create_dir(parent).unwrap();
                    fs::set_permissions(parent, fs::Permissions::from_mode(0o700)).unwrap();
                }
                fs::write(&path, contents).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
            }
        }
    }
}

const CLIENT: &str =
    "\n[listen.public]\ntcp = \"127.0.0.1:0\"\nclear_text = true\n[[client]]\nname = \"cli\"\nkeys = \"cli.json\"\n";
const KEY: &str = r#"{"kty":"EC","crv":"P-256","kid":"k",
    "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

/// Another issuer, as it is written.
macro_rules! issuer {
    ($issuer:literal) => {
        concat!(
            "\n[[issuer]]\nissuer = \"",
            $issuer,
            "\"\naudiences = { default = [\"api\"] }\njwks = { cluster = \"idp\" }\n"
        )
    };
}

#[test]
fn what_serve_refuses_config_check_refuses_in_the_same_words() {
    let set = |keys: &str| -> &'static str { Box::leak(format!(r#"{{"keys":[{keys}]}}"#).into_boxed_str()) };
    let (one_key, twice) = (set(KEY), set(&format!("{KEY},{KEY}")));
    let table: &[(&[Change], &str)] = &[
        (
            &[Policy(issuer!("https://kerbridge.example.com"))],
            "policy.toml: issuer[0].issuer: \"https://kerbridge.example.com\" is this broker's own issuer; remove the [[issuer]]",
        ),
        (
            &[Policy(issuer!("https://Kerbridge.example.com/"))],
            "policy.toml: issuer[0].issuer: \"https://Kerbridge.example.com/\" is this broker's own issuer, written otherwise",
        ),
        (
            &[
                Config(
                    "https://kerbridge.example.com",
                    concat!(
                        "https://kerbridge.example.com/",
                        "a2345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678"
                    ),
                ),
                More(CLIENT),
                File("cli.json", one_key, 0o644),
            ],
            "issuer: ",
        ),
        (&[More(CLIENT), File("cli.json", twice, 0o644)], "client[0].keys: "),
        (
            &[
                More("\n[keys.pkcs11]\nmodule = \"none.so\"\ntoken = \"t\"\npin_file = \"pin\"\n"),
                File("pin", "1", 0o600),
            ],
            "keys.pkcs11",
        ),
        (&[File("kek", "short", 0o600)], "keys.key_encryption_key_file: "),
        (
            &[
                File("state/keyring.json", "{}", 0o600),
                File("state/store.redb", "", 0o600),
            ],
            "state_dir: ",
        ),
        (&[File("state/keyring.json", "{}", 0o600)], "state_dir: "),
        (&[File("state/store.redb.import", "", 0o600)], "state_dir: "),
        (&[Config("state_dir = \"state\"", "state_dir = \"kek\"")], "state_dir: "),
        (
            &[Config("unix = \"mesh.sock\"", "unix = \"none/mesh.sock\"")],
            "listen.mesh.unix: ",
        ),
        (
            &[More("\n[audit]\nto = \"file\"\nfile = \"none/audit.log\"\n")],
            "audit.file: ",
        ),
        (
            &[More("\n[groups]\nsource = \"static\"\nstatic_file = \"none.toml\"\n")],
            "groups.static_file: ",
        ),
        (&[More("\n[store.postgres]\nhosts = []\n")], "store.postgres.hosts: "),
        (&[More("\n[limits]\ndeadline = \"9s\"\n")], "limits.deadline: "),
        (&[Policy("\n[filter]\nalgorithms = [\"RS256\"]\n")], "keys.algorithm: "),
        (
            &[More(
                "\n[[issuer_keys]]\nissuer = \"https://idp.test\"\nfile = \"idp.json\"\n",
            )],
            "issuer_keys[0].issuer: ",
        ),
    ];
    for (changes, expected) in table {
        let folder = Folder::new();
        let issuer = "https://kerbridge.example.com";
        let arguments = ["init", "--keytab", "http.keytab", "--dir", "made", "--issuer", issuer];
        assert!(folder.run(&arguments).status.success());
        for change in *changes {
            change.make(&folder);
        }
        let checked = folder.run(&["config", "check", "--config", "made/kerbridge.toml"]);
        let said = text(&checked.stderr);
        let Err((status, complaint)) = Serving::begin(&folder).listening() else {
            panic!("{expected}: serve takes it")
        };
        assert_eq!(
            (checked.status.code(), status.code()),
            (Some(78), Some(78)),
            "{said}{complaint}"
        );
        assert!(
            said.lines().any(|line| line.contains(expected)),
            "{expected}: {said}{complaint}"
        );
        assert_eq!(said, complaint);
    }
}

#[test]
fn issuers_without_a_name_are_called_by_their_place_whoever_is_left_out_of_what_is_traded() {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    let traced = |issuer: &str| {
        format!("\n[[subject]]\nissuer = \"{issuer}\"\nclaim = \"upn\"\nform = \"principal\"\nrealms = [\"A.TEST\"]\n")
    };
    let issuers = [
        issuer!("https://a.test"),
        issuer!("https://b.test"),
        issuer!("https://c.test"),
    ];
    let [a, b, c] = issuers.map(str::to_owned);
    // The first is not traced to principals, and no tokens of it are traded.
    let (a, c) = (a + "name = \"a\"\n", c + "name = \"issuer-1\"\n");
    let policy = folder.path("made/policy.toml");
    let before = fs::read_to_string(&policy).unwrap();
    let subjects = traced("https://b.test") + &traced("https://c.test");
    fs::write(&policy, before + &a + &b + &c + &subjects).unwrap();
    let keys = |issuer: &str| format!("\n[[issuer_keys]]\nissuer = \"{issuer}\"\nfile = \"idp.json\"\n");
    let config = folder.path("made/kerbridge.toml");
    let before = fs::read_to_string(&config).unwrap();
    fs::write(&config, before + &keys("https://b.test") + &keys("https://c.test")).unwrap();
    fs::write(folder.path("made/idp.json"), "{\"keys\":[]}").unwrap();
    let checked = folder.run(&["config", "check", "--config", "made/kerbridge.toml"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    drop(Serving::start(&folder));
}
