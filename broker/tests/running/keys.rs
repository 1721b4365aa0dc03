//! `kerbridge keys` and `kerbridge store`, with a broker and without one.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use super::*;

fn run(folder: &Folder, command: &[&str], arguments: &[&str]) -> Output {
    let options = ["--config", "made/kerbridge.toml"];
    folder.run(&[command, &options, arguments].concat())
}

fn json(folder: &Folder, command: &[&str], arguments: &[&str]) -> Value {
    let output = run(folder, command, &[&["--output", "json"], arguments].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn refused(output: &Output, code: i32, words: &str) {
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{complaint}");
    assert!(complaint.contains(words), "{complaint}");
}

fn kids(listed: &Value) -> Vec<String> {
    let keys = listed["keys"].as_array().unwrap();
    keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn stages(listed: &Value) -> Vec<&str> {
    let keys = listed["keys"].as_array().unwrap();
    keys.iter().map(|key| key["stage"].as_str().unwrap()).collect()
}

/// The identifiers that the broker publishes.
fn published(folder: &Folder) -> Vec<String> {
    let answer = get(&folder.path("made/mesh.sock"), "/.well-known/jwks.json");
    let set: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    kids(&serde_json::json!({ "keys": set["keys"] }))
}

fn kek(folder: &Folder, name: &str, fill: &str) {
    let path = folder.path(name);
    fs::write(&path, fill.repeat(43)).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

#[test]
fn keys_are_published_replaced_and_retired_by_command_and_the_log_says_by_whom() {
    let folder = made();
    let broker = Serving::start(&folder);
    let first = json(&folder, &["keys", "list"], &[]);
    assert_eq!(stages(&first), ["signing"]);
    let rotated = json(&folder, &["keys", "rotate"], &[]);
    assert_eq!(stages(&rotated), ["signing", "next"]);
    assert_eq!(published(&folder), kids(&rotated));
    refused(
        &run(&folder, &["keys", "rotate"], &[]),
        64,
        "the next key is published already; wait until it signs",
    );
    let switched = json(&folder, &["keys", "rotate"], &["--now"]);
    assert_eq!(stages(&switched), ["signing", "old"]);
    let old = switched["keys"][1]["kid"].as_str().unwrap();
    assert_eq!(old, kids(&first)[0]);
    let kept = switched["keys"][1]["kept_until"].as_u64().unwrap();
    assert!(
        kept >= switched["keys"][1]["stopped"].as_u64().unwrap() + 900,
        "{switched}"
    );
    let signing = &kids(&switched)[0];
    let retired = json(&folder, &["keys", "retire"], &[signing]);
    assert_eq!(stages(&retired), ["signing", "old"]);
    assert!(!kids(&retired).contains(signing) && !published(&folder).contains(signing));
    refused(
        &run(&folder, &["keys", "retire"], &[signing]),
        1,
        "no key has this identifier",
    );
    let words = run(&folder, &["keys", "list"], &[]);
    let words = text(&words.stdout);
    assert!(
        words.contains("  ES256  signing  since 20") && words.contains("published until 20"),
        "{words}"
    );
    broker.signal(Signal::TERM);
    let (_, log) = broker.end();
    let uid = rustix::process::geteuid().as_raw();
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<_> = events
        .iter()
        .filter(|event| event["kid"].is_string() && event["by"].is_string())
        .collect();
    let said: Vec<_> = events.iter().map(|event| event["message"].as_str().unwrap()).collect();
    assert_eq!(
        said,
        [
            "signing key published",
            "signing key in use",
            "signing key retired",
            "signing key in use"
        ]
    );
    for event in events {
        assert_eq!((&event["by"], &event["uid"]), (&"administrator".into(), &uid.into()));
        assert_eq!(event["target"], "kerbridge::audit");
    }
    // Without a broker the same commands write the file, and the next broker has it.
    let output = run(&folder, &["keys", "rotate"], &["--now", "--output", "json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let offline: Value = serde_json::from_slice(&output.stdout).unwrap();
    let event: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(
        (&event["message"], &event["target"]),
        (&"signing key in use".into(), &"kerbridge::audit".into())
    );
    assert_eq!(
        (&event["by"], &event["uid"], &event["kid"]),
        (&"offline".into(), &uid.into(), &offline["keys"][0]["kid"])
    );
    assert_eq!(stages(&offline), ["signing", "old", "old"]);
    let _broker = Serving::start(&folder);
    assert_eq!(published(&folder), kids(&offline));
}

#[test]
fn the_key_encryption_key_is_replaced_while_the_broker_runs_and_at_no_step_are_the_keys_lost() {
    let folder = made();
    let broker = Serving::start(&folder);
    let before = published(&folder);
    kek(&folder, "kek.new", "E");
    refused(
        &run(&folder, &["keys", "rewrap"], &["--to", "kek.new", "--only"]),
        64,
        "do not open under that key-encryption key; seal them under it first",
    );
    let both = json(&folder, &["keys", "rewrap"], &["--to", "kek.new"]);
    assert_eq!(both["sealed_under"].as_array().unwrap().len(), 2);
    // Whatever happens now, either opens them.
    broker.signal(Signal::KILL);
    drop(broker.end());
    drop(Serving::start(&folder));
    fs::rename(folder.path("kek.new"), folder.path("made/kek")).unwrap();
    let broker = Serving::start(&folder);
    assert_eq!(published(&folder), before);
    let alone = json(&folder, &["keys", "rewrap"], &["--only"]);
    assert_eq!(alone["sealed_under"].as_array().unwrap().len(), 1);
    broker.signal(Signal::TERM);
    let (_, log) = broker.end();
    assert!(log.contains("keys sealed under one key-encryption key alone"), "{log}");
    let _broker = Serving::start(&folder);
    assert_eq!(published(&folder), before);
}

#[test]
fn what_the_store_holds_goes_to_another_store_in_a_new_epoch() {
    let folder = made();
    refused(&run(&folder, &["store", "export"], &[]), 78, "no broker has run yet");
    let broker = Serving::start(&folder);
    refused(&run(&folder, &["store", "check"], &[]), 78, "another broker");
    broker.signal(Signal::TERM);
    drop(broker.end());
    for arguments in [
        &["--subject", "alice@A.TEST"][..],
        &["--sid", "s", "--before", "now"],
        &["--jti", "t"],
    ] {
        json(&folder, &["revoke"], arguments);
    }
    let checked = json(&folder, &["store", "check"], &[]);
    assert_eq!((&checked["revoked"], &checked["version"]), (&3.into(), &3.into()));
    let export = run(&folder, &["store", "export"], &[]).stdout;
    fs::write(folder.path("export"), &export).unwrap();
    refused(
        &run(&folder, &["store", "import"], &["export"]),
        78,
        "is there, and is not overwritten",
    );
    fs::rename(folder.path("made/state/store.redb"), folder.path("aside")).unwrap();
    fs::write(folder.path("half"), &export[..export.len() / 2]).unwrap();
    refused(
        &run(&folder, &["store", "import"], &["half"]),
        64,
        "is no whole export: line ",
    );
    assert!(!folder.path("made/state/store.redb").exists());
    let imported = json(&folder, &["store", "import"], &["export"]);
    assert_eq!(
        (&imported["revoked"], &imported["before"]),
        (&3.into(), &checked["epoch"])
    );
    assert_ne!(imported["epoch"], checked["epoch"]);
    let again = text(&run(&folder, &["store", "export"], &[]).stdout);
    let lines = |text: &str| {
        text.lines()
            .filter(|line| line.contains("\"revoked\":{"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(lines(&again), lines(&text(&export)));
    assert_eq!(lines(&again).len(), 3);
    // One from a backup is looked at where it lies.
    assert_eq!(
        json(&folder, &["store", "check"], &["--file", "aside"])["epoch"],
        checked["epoch"]
    );
    drop(Serving::start(&folder));
}

#[test]
fn a_store_or_key_file_that_is_damaged_foreign_or_empty_stops_the_start_says_the_way_back_and_stays_as_it_is() {
    let folder = made();
    drop(Serving::start(&folder));
    for (name, remedy) in [
        ("store.redb", "kerbridge store import FILE"),
        ("keyring.json", "from a backup"),
    ] {
        let path = folder.path("made/state").join(name);
        let good = fs::read(&path).unwrap();
        let middle = good.len() / 2;
        let mut flipped = good.clone();
        flipped.iter_mut().take(64).for_each(|byte| *byte ^= 0x55);
        for bad in [
            Vec::new(),
            good[..middle].to_vec(),
            b"something else altogether".to_vec(),
            vec![0xff; 500],
            flipped,
        ] {
            fs::write(&path, &bad).unwrap();
            let output = folder.run(&["serve", "--config", "made/kerbridge.toml"]);
            refused(&output, 78, remedy);
            let said = text(&output.stderr);
            assert!(said.contains(name) && said.contains("1 problem in"), "{said}");
            // Where a store is cut short, redb notes in it how long it is now before it finds that the rest is missing.
            if name != "store.redb" || bad.len() != middle {
                assert_eq!(fs::read(&path).unwrap(), bad, "{name} was changed");
            }
        }
        // Nor is anything taken for a file that is none.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let output = folder.run(&["serve", "--config", "made/kerbridge.toml"]);
        assert_eq!(output.status.code(), Some(78), "{name}: {}", text(&output.stderr));
        fs::remove_dir(&path).unwrap();
        fs::write(&path, &good).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    drop(Serving::start(&folder));
}

#[test]
fn a_store_that_is_gone_beside_its_keys_is_made_by_nothing_but_a_command_that_ends_every_token() {
    let folder = made();
    refused(&run(&folder, &["store", "begin"], &[]), 64, "holds no keys");
    let broker = Serving::start(&folder);
    let before = kids(&json(&folder, &["keys", "rotate"], &[]));
    refused(&run(&folder, &["store", "begin"], &[]), 78, "another broker");
    broker.signal(Signal::TERM);
    drop(broker.end());
    refused(
        &run(&folder, &["store", "begin"], &[]),
        78,
        "is there, and is not overwritten",
    );
    let epoch = json(&folder, &["store", "check"], &[])["epoch"].clone();
    let store = folder.path("made/state/store.redb");
    fs::remove_file(&store).unwrap();
    for (command, arguments) in [
        (&["serve"][..], &[][..]),
        (&["config", "check"], &[]),
        (&["keys", "rotate"], &["--now"]),
        (&["revoke"], &["--subject", "alice@A.TEST"]),
        (&["store", "check"], &[]),
        (&["store", "export"], &[]),
        (&["policy", "render"], &["--inline-keys"]),
    ] {
        let output = run(&folder, command, arguments);
        refused(&output, 78, "store.redb is gone");
        refused(&output, 78, "kerbridge store begin");
        assert!(!store.exists(), "{command:?}");
    }
    // What it needs to be done by hand is there all the same.
    assert_eq!(kids(&json(&folder, &["keys", "list"], &[])), before);
    let begun = json(&folder, &["store", "begin"], &[]);
    assert_eq!(
        (&begun["retired"], &begun["version"]),
        (&serde_json::json!(before), &0.into())
    );
    assert_ne!(begun["epoch"], epoch);
    let broker = Serving::start(&folder);
    assert_eq!(published(&folder), [begun["signing"].as_str().unwrap()]);
    broker.signal(Signal::TERM);
    let (_, log) = broker.end();
    assert!(!log.contains("there was"), "{log}");
    assert_eq!(json(&folder, &["store", "check"], &[])["epoch"], begun["epoch"]);
}

#[test]
fn a_first_start_that_makes_no_store_makes_no_keys_and_the_next_one_makes_both() {
    let folder = made();
    let state = folder.path("made/state");
    let in_the_way = state.join("store.redb.new");
    fs::create_dir_all(&in_the_way).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    let output = folder.run(&["serve", "--config", "made/kerbridge.toml"]);
    refused(&output, 78, "store.redb: ");
    assert!(!state.join("keyring.json").exists());
    fs::remove_dir(&in_the_way).unwrap();
    drop(Serving::start(&folder));
    assert!(state.join("keyring.json").exists());
}

#[test]
fn keys_that_are_gone_are_made_anew_and_said() {
    let folder = made();
    let served = || {
        let serving = Serving::start(&folder);
        serving.signal(Signal::TERM);
        serving.end().1
    };
    let said = "there was a store and no keys";
    let log = served();
    assert!(!log.contains(said), "{log}");
    fs::remove_file(folder.path("made/state/keyring.json")).unwrap();
    let log = served();
    assert!(log.contains("\"level\":\"WARN\"") && log.contains(said), "{log}");
    // Once.
    let log = served();
    assert!(!log.contains(said), "{log}");
}
