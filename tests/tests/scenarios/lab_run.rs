//! The lab's named scenarios: on its own parts, in any order, and in front of somebody's own, in which nothing is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::http::Request;
use kerbridge_tests::process::{OwnedProcess, Spawn};
use kerbridge_tests::report;
use kerbridge_tests::report::model::{Credential, Holder, Leg, Outcome, Run, Scenario, Store};
use kerbridge_tests::scenarios::ALL;
use kerbridge_tests::token::{decode, now};
use kerbridge_tests::world::lab_program;

/// What the lab's program did.
struct Ended {
    code: Option<i32>,
    said: String,
    folder: tempfile::TempDir,
}

impl Ended {
    fn run(&self) -> Run {
        report::read(&self.folder.path().join("report")).unwrap()
    }
}

/// Runs `kerbridge-lab run` to its end.
fn run(args: &[&str], environment: &[(&str, OsString)]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    // Apache may be another user.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let spawn = Spawn::new(lab_program().unwrap(), folder.path())
        .args(["run", "--out", folder.path().join("report").to_str().unwrap()])
        .args(args)
        .envs(environment.iter().map(|(name, value)| (name, value)));
    let mut process = OwnedProcess::start(spawn).unwrap();
    let code = process.wait_exit(Duration::from_secs(400)).unwrap().code();
    Ended {
        code,
        said: process.log(),
        folder,
    }
}

fn names(wanted: fn(&Outcome) -> bool, run: &Run) -> BTreeSet<String> {
    let scenarios = run.scenarios.iter().filter(|scenario| wanted(&scenario.outcome));
    scenarios.map(|scenario| scenario.name.clone()).collect()
}

fn passed(run: &Run) -> BTreeSet<String> {
    names(|outcome| *outcome == Outcome::Passed, run)
}

fn failed(run: &Run) -> BTreeSet<String> {
    names(|outcome| *outcome == Outcome::Failed, run)
}

fn scenario<'a>(run: &'a Run, name: &str) -> &'a Scenario {
    run.scenarios.iter().find(|scenario| scenario.name == name).unwrap()
}

/// Why it was not seen, and the remedy.
fn not_seen<'a>(run: &'a Run, name: &str) -> (&'a str, &'a str) {
    let found = match &scenario(run, name).outcome {
        Outcome::NotSeen { why, remedy } => Some((why.as_str(), remedy.as_str())),
        Outcome::Passed | Outcome::Failed => None,
    };
    found.unwrap()
}

fn carried(scenario: &Scenario, leg: Leg, word: &str) -> bool {
    let legs = scenario.steps.iter().flat_map(|step| &step.legs);
    legs.filter(|record| record.leg == leg)
        .any(|record| record.summary.contains(word) || record.lines.iter().any(|line| line.contains(word)))
}

/// The longest run of characters of a credential: one of them would be of hundreds.
fn longest_run(text: &str) -> usize {
    let runs = text.split(|c: char| !c.is_ascii_alphanumeric() && !"+/_-".contains(c));
    runs.map(str::len).max().unwrap_or(0)
}

fn every_file_without_credentials(folder: &Path) {
    let mut files = Vec::new();
    for file in std::fs::read_dir(folder.join("report")).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.is_empty(), "{}", path.display());
        // The whole of a temporary file's path is longer than that of any name, and shorter than a ticket or a token.
        let longest = longest_run(&text);
        assert!(longest < 100, "{longest} in {}", path.display());
        files.push(path);
    }
    assert_eq!(files.len(), 3);
}

#[test]
fn every_scenario_holds_on_the_labs_own_parts_and_each_leg_is_kept_without_a_credential() {
    let ended = run(&[], &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    let run = ended.run();
    assert_eq!(run.scenarios.len(), ALL.len());
    assert_eq!(failed(&run), BTreeSet::new());
    for one in &run.scenarios {
        // An MIT KDC's tickets say no groups.
        if one.name != "big-pac" {
            assert_eq!(one.outcome, Outcome::Passed, "{}", one.name);
            assert!(!one.steps.is_empty(), "{}", one.name);
            assert!(ended.said.contains(&one.name), "{}", ended.said);
        }
    }
    let mapping = scenario(&run, "mapping");
    for (leg, word) in [
        (Leg::Client, "GET /orders/1"),
        (Leg::Client, "Authorization: Negotiate YII"),
        (Leg::Broker, "a ticket, to become a token"),
        (Leg::Kdc, "TGS-REQ for HTTP/localhost@LAB.TEST"),
        (Leg::Kdc, "AS-REP: a ticket of alice@LAB.TEST"),
        (Leg::Upstream, "x-kerbridge-subject: alice@LAB.TEST"),
    ] {
        assert!(carried(mapping, leg, word), "{word}");
    }
    let allowed = scenario(&run, "delegation-allowed");
    for (leg, word) in [
        (Leg::Kdc, "S4U2self"),
        (Leg::Kdc, "S4U2proxy"),
        (Leg::Upstream, "Negotiate YII"),
        (Leg::Broker, "a token, to become a ticket"),
    ] {
        assert!(carried(allowed, leg, word), "{word}");
    }
    assert!(carried(
        scenario(&run, "delegation-denied"),
        Leg::Kdc,
        "KDC_ERR_BADOPTION"
    ));
    assert!(carried(scenario(&run, "kdc-down"), Leg::Kdc, "no answer"));
    let holds = |who, credential| {
        let held = allowed.holdings.iter();
        held.filter(|held| (held.who, held.credential) == (who, credential))
            .count()
            > 0
    };
    assert!(holds(Holder::Client, Credential::Token) && holds(Holder::Broker, Credential::ServiceTicket));
    assert!(holds(Holder::Upstream, Credential::ApReq) && !holds(Holder::Upstream, Credential::Token));
    every_file_without_credentials(ended.folder.path());
}

#[test]
fn in_any_order_every_scenario_holds_on_two_brokers_with_one_database() {
    // As cards are shuffled (Fisher-Yates), by the second in which it runs; a failure says the order.
    let mut order: Vec<&str> = ALL.iter().map(|one| one.name).collect();
    let mut state = now();
    for last in (1..order.len()).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let other = usize::try_from(state >> 33).unwrap() % (last + 1);
        order.swap(last, other);
    }
    let mut args = vec!["--brokers", "2", "--only"];
    args.extend(&order);
    let ended = run(&args, &[]);
    assert_eq!(ended.code, Some(0), "{order:?}: {}", ended.said);
    let run = ended.run();
    assert_eq!((run.setup.brokers, run.setup.store), (2, Store::Postgres));
    let ran: Vec<&str> = run.scenarios.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(ran, order);
    assert_eq!(passed(&run).len(), ALL.len() - 1, "{}", ended.said);
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
fn a_command_line_that_is_wrong_ends_with_two_and_names_what_is_wrong() {
    for (args, told) in [
        (vec!["--only", "nonsense"], "there is no scenario \"nonsense\""),
        (
            vec!["--brokers", "2", "--store", "redb"],
            "two brokers share a database",
        ),
        (vec!["--brokers", "3"], "--brokers"),
        (vec!["--kdc", "heimdal"], "neither mit nor samba"),
        (vec!["--audience", "orders"], "--envoy"),
    ] {
        let ended = run(&args, &[]);
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.said);
        assert!(ended.said.contains(told), "{args:?}: {}", ended.said);
    }
    let ended = run(&["--list"], &[]);
    assert_eq!(ended.code, Some(0));
    for one in ALL {
        assert!(
            ended.said.contains(one.name) && ended.said.contains(one.purpose),
            "{}",
            one.name
        );
    }
}
