//! The command line as a user meets it: exit codes, problems with remedies, and an `init` whose result runs.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests and their helpers may fail loudly"
)]

#[path = "running/fixture.rs"]
mod fixture;
#[path = "command_line/names.rs"]
mod names;
#[path = "command_line/policies.rs"]
mod policies;
#[path = "command_line/refused.rs"]
mod refused;
#[path = "command_line/stores.rs"]
mod stores;
#[path = "command_line/tickets.rs"]
mod tickets;
#[path = "command_line/troubles.rs"]
mod troubles;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fixture::{AES, Folder, RC4, Serving, get, text};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn a_wrong_command_line_is_64_and_help_is_0() {
    let folder = Folder::new();
    for arguments in [
        &[][..],
        &["config"],
        &["policy"],
        &["sreve"],
        &["serve", "--confg", "x"],
        &["init"],
        &["config", "check", "--output", "xml"],
        &["completion", "tcsh"],
        &["principal"],
        &["principal", "map"],
        &["policy", "test"],
    ] {
        let output = folder.run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["policy", "render", "--help"],
        &["--version"],
    ] {
        let output = folder.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty(), "{arguments:?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let output = folder.run(&["completion", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = text(&output.stdout);
        assert!(script.contains("kerbridge") && script.contains("principal"), "{shell}");
    }
}

#[test]
fn init_writes_a_configuration_that_runs_and_stops_cleanly() {
    let folder = Folder::new();
    let output = folder.init();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for name in ["kerbridge.toml", "policy.toml", "kek", "filter.yaml"] {
        assert!(folder.path("made").join(name).is_file(), "{name}");
    }
    let mode = fs::metadata(folder.path("made/kek")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for check in ["config", "policy"] {
        let output = folder.run(&[check, "check", "--config", "made/kerbridge.toml"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    let socket = folder.path("made/mesh.sock");
    let keys = |socket: &Path| {
        let answer = get(socket, "/.well-known/jwks.json");
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    let broker = Serving::start(&folder);
    assert!(get(&socket, "/readyz").starts_with("HTTP/1.1 200 "));
    let first = keys(&socket);
    broker.signal(Signal::TERM);
    let (status, log) = broker.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("\"message\":\"stopped\""), "{log}");
    assert!(!socket.exists());
    // The next one has the same keys, and ends on the other signal too.
    let broker = Serving::start(&folder);
    assert_eq!(keys(&socket), first);
    broker.signal(Signal::INT);
    assert_eq!(broker.end().0.code(), Some(0));
}

#[test]
fn a_broker_that_was_killed_leaves_nothing_in_the_way() {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    let broker = Serving::start(&folder);
    broker.signal(Signal::KILL);
    assert!(!broker.end().0.success());
    assert!(folder.path("made/mesh.sock").exists());
    drop(Serving::start(&folder));
}

#[test]
fn init_never_overwrites_and_leaves_all_or_nothing() {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    let before = fs::read(folder.path("made/kek")).unwrap();
    fs::remove_file(folder.path("made/filter.yaml")).unwrap();
    let output = folder.init();
    assert_eq!(output.status.code(), Some(78));
    let complaint = text(&output.stderr);
    assert!(
        complaint.contains("made/kek, made/policy.toml, made/kerbridge.toml would be overwritten"),
        "{complaint}"
    );
    assert_eq!(fs::read(folder.path("made/kek")).unwrap(), before);
    assert!(!folder.path("made/filter.yaml").exists());
    // An issuer that cannot be one is found when all is written, and all of it goes again.
    let output = folder.run(&[
        "init",
        "--keytab",
        "http.keytab",
        "--dir",
        "other",
        "--issuer",
        "http://x",
    ]);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        text(&output.stderr).contains("issuer: \"http://x\" is no issuer"),
        "{}",
        text(&output.stderr)
    );
    // What does not exist is not named as the place of the problem.
    assert!(
        !text(&output.stderr).contains("kerbridge.toml"),
        "{}",
        text(&output.stderr)
    );
    assert!(!folder.path("other").exists());
}

#[test]
fn init_puts_the_key_encryption_key_where_it_is_told_to_and_says_what_not_to_back_up_together() {
    let folder = Folder::new();
    fs::create_dir(folder.path("keys")).unwrap();
    let arguments = [
        "init",
        "--keytab",
        "http.keytab",
        "--dir",
        "made",
        "--kek",
        "keys/broker.kek",
    ];
    let output = folder.run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let kek = folder.path("keys/broker.kek");
    assert_eq!(fs::metadata(&kek).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!folder.path("made/kek").exists());
    let said = text(&output.stdout);
    assert!(
        said.contains(kek.to_str().unwrap()) && said.contains("never both in one backup"),
        "{said}"
    );
    let config = fs::read_to_string(folder.path("made/kerbridge.toml")).unwrap();
    assert!(config.contains("never in one backup with the state folder"), "{config}");
    drop(Serving::start(&folder));
    // It is as little overwritten as anything else, and then nothing is written.
    let before = fs::read(&kek).unwrap();
    let output = folder.run(&[
        "init",
        "--keytab",
        "http.keytab",
        "--dir",
        "other",
        "--kek",
        "keys/broker.kek",
    ]);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        text(&output.stderr).contains("broker.kek would be overwritten"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(fs::read(&kek).unwrap(), before);
    assert!(!folder.path("other").exists());
}

#[test]
fn init_leaves_out_a_principal_without_a_usable_key_and_says_so() {
    let folder = Folder::new();
    folder.keytab(&[
        ("HTTP", "old.test", RC4),
        ("HTTP", "api.test", RC4),
        ("HTTP", "api.test", AES),
    ]);
    let output = folder.init();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stderr),
        "kerbridge: HTTP/old.test@A.TEST is left out: the keytab holds only DES or RC4 keys of it; let the KDC make AES \
         keys\n"
    );
    let config = fs::read_to_string(folder.path("made/kerbridge.toml")).unwrap();
    assert!(
        config.contains("HTTP/api.test@A.TEST") && !config.contains("old.test"),
        "{config}"
    );
    assert!(
        !fs::read_to_string(folder.path("made/policy.toml"))
            .unwrap()
            .contains("old.test")
    );
    // Envoy does not start in the folder in which init was called.
    let pipe = format!("the pipe {};", folder.path("made/mesh.sock").display());
    assert!(text(&output.stdout).contains(&pipe), "{}", text(&output.stdout));
}

#[test]
fn init_says_what_is_wrong_with_a_keytab() {
    let folder = Folder::new();
    let complaint = |folder: &Folder| {
        let output = folder.init();
        assert_eq!(output.status.code(), Some(78));
        assert!(!folder.path("made").exists());
        text(&output.stderr)
    };
    fs::set_permissions(folder.path("http.keytab"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(complaint(&folder).contains("has mode 0644"));
    folder.keytab(&[("host", "api.test", AES)]);
    assert!(complaint(&folder).contains("holds no HTTP/… principal; it holds host/api.test@A.TEST"));
    folder.keytab(&[("host", "api.test", AES), ("HTTP", "old.test", RC4)]);
    assert!(complaint(&folder).contains("holds only DES or RC4 keys of HTTP/old.test@A.TEST"));
    fs::write(folder.path("http.keytab"), "x").unwrap();
    assert!(complaint(&folder).contains("not a keytab"));
    fs::remove_file(folder.path("http.keytab")).unwrap();
    assert!(complaint(&folder).contains("No such file"));
}

#[test]
fn a_wrong_configuration_is_78_before_anything_is_made() {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    let config = folder.path("made/kerbridge.toml");
    let good = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        good.replace("HTTP/www.test", "HTTP/xxx.test")
            .replace("\"kek\"", "\"kkk\""),
    )
    .unwrap();
    for arguments in [&["serve"][..], &["config", "check"]] {
        let output = folder.run(&[arguments, &["--config", "made/kerbridge.toml"]].concat());
        assert_eq!(output.status.code(), Some(78));
        let complaint = text(&output.stderr);
        assert!(complaint.contains("2 problems in made/kerbridge.toml"), "{complaint}");
        assert!(complaint.contains("kerberos.acceptor[1].principal: "), "{complaint}");
        assert!(complaint.contains("keys.key_encryption_key_file: "), "{complaint}");
    }
    assert!(!folder.path("made/state").exists());
    assert!(!folder.path("made/mesh.sock").exists());
    let output = folder.run(&["config", "check", "--output", "json", "--config", "made/kerbridge.toml"]);
    assert_eq!(output.status.code(), Some(78));
    let problems: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(problems.as_array().unwrap().len(), 2);
    assert_eq!(problems[0]["field"], "kerberos.acceptor[1].principal");
    assert!(problems[0]["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()));
}

#[test]
fn addresses_in_use_are_78_and_all_are_named() {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = folder.path("made/kerbridge.toml");
    let observe = format!("\n[listen.observe]\ntcp = \"127.0.0.1:{port}\"\nclear_text = true\n");
    fs::write(&config, fs::read_to_string(&config).unwrap() + &observe).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(folder.path("made/mesh.sock")).unwrap();
    let output = folder.run(&["serve", "--config", "made/kerbridge.toml"]);
    assert_eq!(output.status.code(), Some(78));
    let complaint = text(&output.stderr);
    assert!(
        complaint.contains("listen.mesh.unix: ") && complaint.contains("somebody answers there"),
        "{complaint}"
    );
    assert!(
        complaint.contains("listen.observe.tcp: ") && complaint.contains("address already in use"),
        "{complaint}"
    );
    assert!(!text(&output.stdout).contains("listening"));
    assert!(folder.path("made/mesh.sock").exists());
}

#[test]
fn all_that_is_wrong_in_the_file_and_around_it_is_said_in_one_go() {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    drop(Serving::start(&folder));
    fs::remove_file(folder.path("made/mesh.sock")).unwrap();
    let state = || {
        let mut names: Vec<_> = fs::read_dir(folder.path("made/state"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    let before = state();
    let krb5_conf = folder.path("made/state/krb5.conf");
    fs::write(&krb5_conf, "as it was").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = folder.path("made/kerbridge.toml");
    let good = fs::read_to_string(&config).unwrap();
    let observe = format!("\n[listen.observe]\ntcp = \"127.0.0.1:{port}\"\nclear_text = true\n");
    let wrong = good
        .replace("HTTP/www.test@", "HTTP/xxx.test@")
        .replace("state_dir =", "colour = 1\nstate_dir =");
    fs::write(&config, wrong + &observe).unwrap();
    fs::write(folder.path("made/kek"), "A".repeat(43)).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(folder.path("made/mesh.sock")).unwrap();
    let output = folder.run(&["serve", "--config", "made/kerbridge.toml"]);
    assert_eq!(output.status.code(), Some(78));
    let complaint = text(&output.stderr);
    for expected in [
        "5 problems in made/kerbridge.toml\n",
        "  colour: unknown field",
        "  kerberos.acceptor[1].principal: ",
        "keyring.json does not open",
        "somebody answers there",
        "address already in use",
    ] {
        assert!(complaint.contains(expected), "{expected}: {complaint}");
    }
    assert_eq!(state(), before, "something was made");
    assert_eq!(fs::read_to_string(&krb5_conf).unwrap(), "as it was");
    // What is in use now is no mistake of the configuration.
    let output = folder.run(&["config", "check", "--config", "made/kerbridge.toml"]);
    assert!(text(&output.stderr).contains("3 problems"), "{}", text(&output.stderr));
}

#[test]
fn the_status_without_a_socket_to_ask_at_says_what_is_missing_or_wrong() {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    let config = folder.path("made/kerbridge.toml");
    let good = fs::read_to_string(&config).unwrap();
    let without = good.replace("[listen.admin]\nunix = \"admin.sock\"\n", "");
    let wrong = without.replace("state_dir =", "colour = 1\nstate_dir =");
    for (text_of_file, field) in [(without, "listen.admin"), (wrong, "colour")] {
        fs::write(&config, text_of_file).unwrap();
        let arguments = ["status", "--output", "json", "--config", "made/kerbridge.toml"];
        let output = folder.run(&arguments);
        assert_eq!(output.status.code(), Some(78));
        let problems: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(problems.as_array().unwrap().len(), 1, "{problems}");
        assert_eq!(problems[0]["field"], field, "{problems}");
    }
    let output = folder.run(&["status", "--config", "made/nothing.toml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        text(&output.stderr).contains("nothing.toml"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn another_key_encryption_key_stops_the_start_and_says_how_to_recover() {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    drop(Serving::start(&folder));
    fs::write(folder.path("made/kek"), "A".repeat(43)).unwrap();
    for command in [&["serve"][..], &["config", "check"]] {
        let output = folder.run(&[command, &["--config", "made/kerbridge.toml"]].concat());
        assert_eq!(output.status.code(), Some(78));
        let complaint = text(&output.stderr);
        assert!(
            complaint.contains("keyring.json does not open") && complaint.contains("from a backup"),
            "{complaint}"
        );
    }
}

#[test]
fn the_policy_is_rendered_as_json_and_as_envoys_entry() {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    fs::write(folder.path("module.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let render = |more: &[&str]| {
        let output = folder.run(&[&["policy", "render", "--config", "made/kerbridge.toml"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let config: Value = serde_json::from_str(&render(&["--format", "json"])).unwrap();
    assert_eq!(config["issuers"][0]["issuer"], "https://kerbridge.a.test");
    assert_eq!(config["routes"].as_array().unwrap().len(), 2);
    let yaml = render(&["--module", "module.wasm"]);
    // Of the empty module, as sha256sum says it.
    assert!(
        yaml.contains("93a44bbb96c751218e4c00d479e4c14358122a389acca16205b1e4d0dc5f9476"),
        "{yaml}"
    );
    assert!(
        yaml.contains(&format!("filename: {:?}", folder.path("module.wasm"))),
        "{yaml}"
    );
    let yaml = render(&["--module", "module.wasm", "--deployed-module", "/m.wasm"]);
    assert!(yaml.contains("filename: \"/m.wasm\"\n"), "{yaml}");
    // What init wrote is what render writes.
    assert!(
        fs::read_to_string(folder.path("made/filter.yaml"))
            .unwrap()
            .ends_with(&render(&[]))
    );

    let output = folder.run(&["policy", "render", "--inline-keys", "--config", "made/kerbridge.toml"]);
    assert_eq!(
        output.status.code(),
        Some(78),
        "there are no keys before the first start"
    );
    drop(Serving::start(&folder));
    let inline: Value = serde_json::from_str(&render(&["--format", "json", "--inline-keys"])).unwrap();
    let keys: Value = serde_json::from_str(inline["issuers"][0]["jwks"]["inline"].as_str().unwrap()).unwrap();
    assert_eq!(keys["keys"][0]["kty"], "EC");
    assert!(keys["keys"][0].get("d").is_none());
}

#[test]
fn a_policy_is_checked_without_keytab_and_keys() {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    fs::remove_file(folder.path("http.keytab")).unwrap();
    fs::remove_file(folder.path("made/kek")).unwrap();
    let check = ["policy", "check", "--config", "made/kerbridge.toml"];
    assert_eq!(folder.run(&check).status.code(), Some(0));
    let policy = folder.path("made/policy.toml");
    let text_before = fs::read_to_string(&policy).unwrap();
    fs::write(
        &policy,
        text_before.replace("path_prefix = \"/\"", "path_prefix = \"x\""),
    )
    .unwrap();
    let output = folder.run(&check);
    assert_eq!(output.status.code(), Some(78));
    let complaint = text(&output.stderr);
    assert!(
        complaint.contains("policy.toml: route[0].path_prefix: does not fit; expected an absolute path"),
        "{complaint}"
    );
    assert!(
        complaint.contains("policy.toml: route[1].path_prefix: does not fit; expected an absolute path"),
        "{complaint}"
    );
}
