//! The broker signs in a PKCS#11 token, which SoftHSM plays: keys are made there, stay there, and are destroyed there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kerbridge_tests::http::Request;
use kerbridge_tests::wait::{Deadline, wait_until};
use kerbridge_tests::world::WorldBuilder;
use kerbridge_tests::{World, shipped, token};
use rustix::fs::{FlockOperation, fcntl_lock};
use serde_json::Value;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "5678";

/// Makes a token in a folder, and returns the environment that leads to it.
fn soft_hsm(folder: &Path) -> String {
    let tokens = folder.join("tokens");
    fs::create_dir(&tokens).unwrap();
    let config = folder.join("softhsm2.conf");
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\n",
        tokens.display()
    );
    fs::write(&config, text).unwrap();
    let environment = format!("SOFTHSM2_CONF={}", config.display());
    let made = Command::new("env")
        .args([
            &environment,
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            "kerbridge",
        ])
        .args(["--pin", PIN, "--so-pin", "1234"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let pin = folder.join("token.pin");
    fs::write(&pin, PIN).unwrap();
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
    environment
}

/// How many objects the token holds: two halves for each key.
fn objects(folder: &Path) -> usize {
    let slots = fs::read_dir(folder.join("tokens")).unwrap();
    let files = slots.flat_map(|slot| fs::read_dir(slot.unwrap().path()).unwrap());
    let is_object = |name: &str| name.ends_with(".object") && name != "token.object";
    files
        .filter(|file| is_object(&file.as_ref().unwrap().file_name().to_string_lossy()))
        .count()
}

/// The table of `kerbridge.toml` for it.
fn table(folder: &Path) -> String {
    let pin = folder.join("token.pin").display().to_string();
    format!("[keys.pkcs11]\nmodule = {MODULE:?}\ntoken = \"kerbridge\"\npin_file = {pin:?}\n")
}

/// A lab whose broker signs in this token, with keys in the filter.
fn signing_in(folder: &Path, environment: &str, world: WorldBuilder, algorithm: &str) -> World {
    let mut world = world.broker_table(&table(folder)).broker_stopped().start().unwrap();
    world
        .broker()
        .configure("[keys]\n", &format!("[keys]\nalgorithm = {algorithm:?}\n"))
        .unwrap();
    world.broker().start_through(&["env", environment]);
    world.broker().start().unwrap();
    wait_until("keys in the filter", Duration::from_secs(20), || {
        world.token("alice", "/orders/1").is_ok()
    })
    .unwrap();
    world
}

/// What happens to a token that hangs: whoever asks SoftHSM for anything waits for this lock.
fn hang(folder: &Path) -> fs::File {
    let slot = fs::read_dir(folder.join("tokens")).unwrap().next().unwrap().unwrap();
    let generation = slot.path().join("generation");
    let held = fs::OpenOptions::new().read(true).write(true).open(generation).unwrap();
    fcntl_lock(&held, FlockOperation::LockExclusive).unwrap();
    held
}

#[test]
fn tokens_that_are_signed_in_a_pkcs11_token_pass_and_its_keys_are_replaced_and_destroyed() {
    let hsm = tempfile::tempdir().unwrap();
    let environment = soft_hsm(hsm.path());
    let mut world = signing_in(hsm.path(), &environment, World::builder(), "ES256");
    let passes = |world: &World, token: &str| {
        let answer = world.curl("/orders/1").bearer(token).send().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let first = world.token("alice", "/orders/1").unwrap();
    passes(&world, &first);
    let listed = world.broker().administer(&["keys", "list"], &[]).unwrap();
    assert_eq!(listed["keys"][0]["in_hardware"], true, "{listed}");
    assert_eq!(listed["keys"][0]["kid"], token::decode(&first).unwrap().header["kid"]);
    assert_eq!(objects(hsm.path()), 2);
    // After a restart it is the same key.
    world.broker().stop().unwrap();
    world.broker().start().unwrap();
    passes(&world, &world.token("alice", "/orders/1").unwrap());
    assert_eq!(
        world.broker().administer(&["keys", "list"], &[]).unwrap()["keys"][0],
        listed["keys"][0]
    );
    // Another takes its place; a token of each is good.
    let switched = world.broker().administer(&["keys", "rotate"], &["--now"]).unwrap();
    let second = world.token("alice", "/orders/1").unwrap();
    assert_eq!(
        switched["keys"][0]["kid"],
        token::decode(&second).unwrap().header["kid"]
    );
    passes(&world, &second);
    passes(&world, &first);
    assert_eq!(objects(hsm.path()), 4);
    // What is retired is gone from the token, too.
    let old: &Value = &switched["keys"][1]["kid"];
    world
        .broker()
        .administer(&["keys", "retire"], &[old.as_str().unwrap()])
        .unwrap();
    assert_eq!(objects(hsm.path()), 2);
    // Without the token the broker does not start, and says why.
    world.broker().stop().unwrap();
    fs::rename(hsm.path().join("tokens"), hsm.path().join("away")).unwrap();
    let complaint = world.broker().start().unwrap_err().to_string();
    assert!(complaint.contains("keyring.json: "), "{complaint}");
}

#[test]
fn rsa_keys_of_a_pkcs11_token_sign_too() {
    let hsm = tempfile::tempdir().unwrap();
    let environment = soft_hsm(hsm.path());
    let policy = shipped::policy_of_a_minter("localhost", "LAB.TEST").unwrap();
    let policy = policy.replace("[filter]\n", "[filter]\nalgorithms = [\"RS256\"]\n");
    let mut world = signing_in(hsm.path(), &environment, World::builder().policy(&policy), "RS256");
    let token = world.token("alice", "/orders/1").unwrap();
    assert_eq!(token::decode(&token).unwrap().header["alg"], "RS256");
    assert_eq!(token::decode(&token).unwrap().signature_bytes, 256);
    assert_eq!(world.curl("/orders/1").bearer(&token).send().unwrap().status, 200);
    let listed = world.broker().administer(&["keys", "list"], &[]).unwrap();
    assert_eq!(listed["keys"][0]["in_hardware"], true, "{listed}");
}

#[test]
fn a_token_that_hangs_costs_tickets_a_503_in_time_and_nothing_else_and_the_broker_still_ends() {
    let hsm = tempfile::tempdir().unwrap();
    let environment = soft_hsm(hsm.path());
    let mut world = signing_in(hsm.path(), &environment, World::builder(), "ES256");
    let token = world.token("alice", "/orders/1").unwrap();
    let held = hang(hsm.path());
    // More at once than the broker has threads for requests.
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let began = Deadline::after(Duration::from_secs(60));
                let answer = world.curl_as("alice", "/orders/1").send().unwrap();
                assert_eq!(world.reason(&answer).unwrap(), (503, "broker_overloaded".to_owned()));
                assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
            });
        }
    });
    // What needs no signature goes on.
    for path in ["/healthz", "/readyz", "/.well-known/jwks.json"] {
        assert_eq!(world.broker().ask(&Request::get(path)).unwrap().status, 200, "{path}");
    }
    assert_eq!(world.curl("/orders/1").bearer(&token).send().unwrap().status, 200);
    let listed = world.broker().administer(&["keys", "list"], &[]).unwrap();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1);
    // A page of the feed does: filters go on with the last one for `max_staleness`.
    assert_eq!(
        world.broker().ask(&Request::get("/v1/revocations")).unwrap().status,
        503
    );
    drop(held);
    wait_until("a token for a ticket", Duration::from_secs(20), || {
        world.curl_as("alice", "/orders/1").send().unwrap().status == 200
    })
    .unwrap();
    assert_eq!(
        world.broker().ask(&Request::get("/v1/revocations")).unwrap().status,
        200
    );
    let held = hang(hsm.path());
    assert_eq!(world.curl_as("alice", "/orders/1").send().unwrap().status, 503);
    world.broker().stop().unwrap();
    drop(held);
}
