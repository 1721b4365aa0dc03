//! The lab in front of somebody's own, in which nothing is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

use kerbridge_tests::World;
use kerbridge_tests::http::Request;
use kerbridge_tests::report::model::{Leg, Outcome, Run};
use kerbridge_tests::scripted_server::{Reply, ScriptedServer};
use kerbridge_tests::token::decode;

use super::{Ended, carried, every_file_without_credentials, failed, passed, run, scenario};

/// Why it was not seen, and the remedy.
fn not_seen<'a>(run: &'a Run, name: &str) -> (&'a str, &'a str) {
    let found = match &scenario(run, name).outcome {
        Outcome::NotSeen { why, remedy } => Some((why.as_str(), remedy.as_str())),
        Outcome::Passed | Outcome::Failed => None,
    };
    found.unwrap()
}

/// Somebody's own set-up, and what its owner says of it.
struct Owner {
    world: World,
    environment: Vec<(&'static str, OsString)>,
}

impl Owner {
    fn start() -> Self {
        let world = World::start().unwrap();
        let environment = world.client("alice");
        Self { world, environment }
    }

    /// The options that name it.
    fn options(&mut self) -> Vec<String> {
        let kdc = std::fs::read_to_string(self.world.kdc().krb5_config()).unwrap();
        let kdc = kdc.lines().find_map(|line| line.strip_prefix("kdc = ")).unwrap();
        let authority = self.world.certificates().authority.display().to_string();
        let broker = format!("unix:{}", self.world.broker().socket().display());
        let url = self.world.url("");
        [
            ("--envoy", url.as_str()),
            ("--ca", &authority),
            ("--path", "/orders/1"),
            ("--other-path", "/reports/1"),
            ("--audience", "orders"),
            ("--kdc", kdc),
            ("--broker", &broker),
        ]
        .iter()
        .flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()])
        .collect()
    }

    fn run(&mut self, more: &[&str]) -> Ended {
        let options = self.options();
        let args: Vec<&str> = options.iter().map(String::as_str).chain(more.iter().copied()).collect();
        run(&args, &self.environment)
    }

    /// Everything there that traffic does not change.
    fn state(&mut self) -> BTreeMap<String, Vec<u8>> {
        let folder = self.world.folder().to_owned();
        let files = [
            "kerbridge.toml",
            "policy.toml",
            "kek",
            "http.keytab",
            "state/keyring.json",
        ];
        let mut state: BTreeMap<String, Vec<u8>> = files
            .iter()
            .map(|name| ((*name).to_owned(), std::fs::read(folder.join(name)).unwrap()))
            .collect();
        let tickets = self.world.ticket("alice").unwrap().path().to_owned();
        state.insert("tickets".to_owned(), std::fs::read(tickets).unwrap());
        let principals = self.world.kdc().kadmin("listprincs\ngetprinc HTTP/localhost").unwrap();
        state.insert("principals".to_owned(), principals.into_bytes());
        let keys = self
            .world
            .broker()
            .ask(&Request::get("/.well-known/jwks.json"))
            .unwrap();
        state.insert("keys".to_owned(), keys.body);
        let feed = self
            .world
            .broker()
            .ask(&Request::get("/v1/revocations"))
            .unwrap()
            .text();
        let page = feed.split(|c: char| c.is_whitespace()).find_map(decode).unwrap().claims;
        let revoked = format!("{} {}", page["epoch"], page["version"]);
        state.insert("revoked".to_owned(), revoked.into_bytes());
        let pids = [self.world.broker().pid().unwrap(), self.world.envoy().process().pid()];
        state.insert("processes".to_owned(), format!("{pids:?}").into_bytes());
        state
    }
}

#[test]
fn in_front_of_somebodys_own_what_changes_nothing_is_tried_and_nothing_is_changed() {
    let mut owner = Owner::start();
    let before = owner.state();
    let ended = owner.run(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    let after = owner.state();
    for (name, value) in &before {
        assert!(after[name] == *value, "{name} was changed");
    }
    let run = ended.run();
    assert!(run.setup.yours);
    let tried = ["mapping", "ntlm", "replay", "spoofed-headers", "wrong-audience"];
    assert_eq!(passed(&run), tried.map(str::to_owned).into(), "{}", ended.said);
    assert_eq!(failed(&run), BTreeSet::new());
    for one in &run.scenarios {
        if let Outcome::NotSeen { why, remedy } = &one.outcome {
            assert!(
                !why.is_empty() && !why.contains('\n') && !remedy.is_empty(),
                "{}: {why}",
                one.name
            );
            assert!(ended.said.contains(why.as_str()), "{why} in {}", ended.said);
        }
    }
    let (why, _) = not_seen(&run, "broker-down");
    assert_eq!(why, "it stops the broker, and in a set-up of yours nothing is changed");
    assert!(carried(
        scenario(&run, "mapping"),
        Leg::Kdc,
        "TGS-REQ for HTTP/localhost@LAB.TEST"
    ));
    assert!(carried(
        scenario(&run, "mapping"),
        Leg::Upstream,
        "x-kerbridge-subject: alice@LAB.TEST"
    ));
    assert!(
        run.notices
            .iter()
            .any(|notice| notice.contains("says that it is ready")),
        "{:?}",
        run.notices
    );
    every_file_without_credentials(ended.folder.path());

    // A token that ends soon is waited for.
    let brief = owner.world.kdc().kinit_with("alice", &["-l", "6s"]).unwrap();
    owner.environment[1].1 = brief.path().as_os_str().to_owned();
    let ended = owner.run(&["--only", "expiry"]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert_eq!(passed(&ended.run()), ["expiry".to_owned()].into());
}

#[test]
fn what_somebody_says_wrongly_is_one_line_with_its_remedy_and_the_rest_is_tried() {
    let mut owner = Owner::start();
    let without_ticket = ["ntlm".to_owned()];
    let nowhere = PathBuf::from("/nonexistent/tickets").into_os_string();
    let tickets = std::mem::replace(&mut owner.environment[1].1, nowhere);
    for (is_there, more, line, remedy) in [
        (
            false,
            vec![],
            "there is no ticket: klist: No credentials cache found",
            "kinit USER",
        ),
        (
            true,
            vec!["--realm", "OTHER.TEST"],
            "the ticket is of the realm LAB.TEST, and --realm says OTHER.TEST",
            "kinit USER@OTHER.TEST, or --realm LAB.TEST",
        ),
        (
            true,
            vec!["--spn", "HTTP/nowhere.lab.test"],
            "no ticket for HTTP/nowhere.lab.test is to be had: ",
            "or name it with --spn",
        ),
    ] {
        if is_there {
            owner.environment[1].1.clone_from(&tickets);
        }
        let ended = owner.run(&more);
        assert_eq!(ended.code, Some(0), "{line}: {}", ended.said);
        let run = ended.run();
        assert_eq!(passed(&run), without_ticket.clone().into(), "{}", ended.said);
        assert_eq!(failed(&run), BTreeSet::new());
        let (why, told) = not_seen(&run, "mapping");
        assert!(why.contains(line) && !why.contains('\n'), "{why}");
        assert!(told.contains(remedy), "{told}");
    }
    // Nobody there: neither at Envoy, nor where the KDC and the broker are said to be.
    let url = "https://localhost:1";
    let args = [
        "--envoy",
        url,
        "--kdc",
        "127.0.0.1:1",
        "--broker",
        "unix:/nonexistent/mesh.sock",
    ];
    let ended = run(&args, &owner.environment);
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    let run = ended.run();
    assert_eq!((passed(&run), failed(&run)), (BTreeSet::new(), BTreeSet::new()));
    let (why, remedy) = not_seen(&run, "ntlm");
    assert!(
        why.starts_with("nothing answers at https://localhost:1: ") && remedy.contains("--envoy"),
        "{why}"
    );
    for told in [
        "nobody answers over TCP at 127.0.0.1:1; look at --kdc",
        "The broker at unix:/nonexistent/mesh.sock was not asked",
    ] {
        assert!(
            run.notices.iter().any(|notice| notice.contains(told)),
            "{:?}",
            run.notices
        );
    }
}

#[test]
fn who_lets_everybody_in_and_who_lets_nobody_in_holds_nothing() {
    let owner = Owner::start();
    let everybody = owner.world.upstream().port();
    let nobody = ScriptedServer::tcp(|_number, _request| Reply::status(401, "not by kerbridge")).unwrap();
    for (port, expected) in [
        // Where no ticket is asked for and no token comes, nothing of them can be tried.
        (everybody, vec!["mapping", "ntlm", "spoofed-headers"]),
        (
            nobody.port(),
            vec![
                "expiry",
                "mapping",
                "ntlm",
                "replay",
                "spoofed-headers",
                "wrong-audience",
            ],
        ),
    ] {
        let url = format!("http://127.0.0.1:{port}");
        let args = ["--envoy", &url, "--spn", "HTTP/localhost", "--other-path", "/reports/1"];
        let ended = run(&args, &owner.environment);
        assert_eq!(ended.code, Some(1), "{}", ended.said);
        let run = ended.run();
        assert_eq!(passed(&run), BTreeSet::new(), "{}", ended.said);
        assert_eq!(
            failed(&run),
            expected.into_iter().map(str::to_owned).collect(),
            "{}",
            ended.said
        );
    }
}
