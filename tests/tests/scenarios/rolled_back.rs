//! A broker of the release before leaves its state to this one, and takes it back: nothing that was revoked comes to life on the way, or the
//! older one says why it does not start. `make compatibility` names its program.

use std::path::PathBuf;
use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::process::{OwnedProcess, Spawn};
use kerbridge_tests::wait::wait_until;

/// The program of the release before.
const PREVIOUS: &str = "KERBRIDGE_PREVIOUS";
/// A poll of the feed, and more for a machine that has much to do.
const EFFECT: Duration = Duration::from_secs(20);

#[expect(clippy::print_stderr, reason = "a test that was left out is to be seen")]
fn previous() -> Option<PathBuf> {
    let named = std::env::var_os(PREVIOUS).map(PathBuf::from);
    if named.is_none() {
        eprintln!("left out: {PREVIOUS} names no broker of the release before; make compatibility does");
    }
    named
}

/// Becomes another program with the arguments of the one that was to be started.
const INSTEAD: &str = r#"program=$0; shift; exec "$program" "$@""#;

fn is_revoked(world: &World, token: &str) -> bool {
    let answer = world.curl("/orders/1").bearer(token).send().unwrap();
    answer.status == 401 && world.reason(&answer).unwrap().1 == "revoked"
}

fn passes(world: &World, token: &str) -> bool {
    world.curl("/orders/1").bearer(token).send().unwrap().status == 200
}

/// Whether the older broker starts on what the newer one left. Where it does not, it must say that a later release wrote it.
fn starts(world: &mut World) -> bool {
    match world.broker().start() {
        Ok(()) => true,
        Err(error) => {
            let said = error.to_string();
            assert!(said.contains("format") && said.contains("this release knows"), "{said}");
            false
        }
    }
}

#[test]
fn a_store_comes_from_the_release_before_goes_back_and_forgets_no_revocation() {
    let Some(previous) = previous() else { return };
    let older = previous.display().to_string();
    let become_older = ["bash", "-c", INSTEAD, older.as_str()];
    let mut world = World::builder().start().unwrap();
    // As at a first start, so that the older one makes keys and store.
    world.broker().stop().unwrap();
    let state = world.broker().folder().join("state");
    for entry in std::fs::read_dir(&state).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(&path).unwrap()
        } else {
            std::fs::remove_file(&path).unwrap()
        }
    }
    world.broker().start_through(&become_older);
    world.broker().start().unwrap();
    let mut tokens = Vec::new();
    for user in ["alice", "bob"] {
        // The filter may still have the keys of before.
        wait_until("a token of the older broker's", EFFECT, || {
            world.token(user, "/orders/1").is_ok_and(|token| {
                let good = passes(&world, &token);
                tokens.push(token);
                good
            })
        })
        .unwrap();
        tokens.truncate(if user == "alice" { 1 } else { 2 });
    }
    let (alice, bob) = (tokens[0].clone(), tokens[1].clone());
    let jti = |token: &str| {
        let claims = kerbridge_tests::token::decode(token).unwrap().claims;
        claims["jti"].as_str().unwrap().to_owned()
    };
    // This release's command, at the older broker.
    world.broker().revoke(&["--jti", &jti(&alice)]).unwrap();
    wait_until("the revocation", EFFECT, || is_revoked(&world, &alice)).unwrap();
    // Forward: what the older one knew, this one knows, and its tokens stay good.
    world.broker().stop().unwrap();
    world.broker().start_through(&[]);
    world.broker().start().unwrap();
    world.broker().revoke(&["--jti", &jti(&bob)]).unwrap();
    wait_until("the second revocation", EFFECT, || is_revoked(&world, &bob)).unwrap();
    assert!(is_revoked(&world, &alice));
    assert_eq!(world.curl_as("alice", "/orders/1").send().unwrap().status, 200);
    // Back.
    world.broker().stop().unwrap();
    world.broker().start_through(&become_older);
    if starts(&mut world) {
        world.broker().revoke(&["--subject", "nobody@LAB.TEST"]).unwrap();
        wait_until("both revocations", EFFECT, || {
            is_revoked(&world, &alice) && is_revoked(&world, &bob)
        })
        .unwrap();
        world.broker().stop().unwrap();
    }
    // By an export, which goes either way whatever the files' formats are: this release writes it, the older one makes its store of it.
    let config = world.broker().config().display().to_string();
    let run = |program: &std::path::Path, arguments: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let spawn = Spawn::new(program, folder.path()).name("store").args(arguments);
        let mut process = OwnedProcess::start(spawn).unwrap();
        let status = process.wait_exit(EFFECT).unwrap();
        assert!(status.success(), "{}", process.log());
        process.log()
    };
    let newer = kerbridge_tests::broker::find_kerbridge().unwrap();
    let export = world.broker().folder().join("export.txt");
    std::fs::write(&export, run(&newer, &["store", "export", "--config", &config])).unwrap();
    std::fs::rename(state.join("store.redb"), world.broker().folder().join("aside.redb")).unwrap();
    run(
        &previous,
        &["store", "import", "--config", &config, export.to_str().unwrap()],
    );
    world.broker().start().unwrap();
    wait_until("both revocations of the export", EFFECT, || {
        is_revoked(&world, &alice) && is_revoked(&world, &bob)
    })
    .unwrap();
    assert_eq!(world.curl_as("bob", "/orders/1").send().unwrap().status, 200);
}
