//! Kerberos clients of several makes get in as they are: curl, Python, Java, a browser.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::process::{OwnedProcess, Spawn, find_program};
use kerbridge_tests::shipped::repository;
use kerbridge_tests::token::decode;
use serde_json::{Value, json};

/// How long a client may take to start and to be done.
const WITHIN: Duration = Duration::from_secs(60);

fn client(name: &str) -> PathBuf {
    repository().join("tests/clients").join(name)
}

/// Runs a client with alice's tickets, and nothing else of this machine's, and returns what it printed.
fn run<A: AsRef<OsStr>>(world: &World, program: impl AsRef<OsStr>, args: impl IntoIterator<Item = A>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let spawn = Spawn::new(program, folder.path())
        .name("client")
        .args(args)
        .envs(world.client("alice"))
        .env("HOME", world.folder())
        .env("NO_PROXY", "*");
    let mut process = OwnedProcess::start(spawn).unwrap();
    let status = process.wait_exit(WITHIN).unwrap();
    assert!(status.success(), "{}", process.log());
    process.log()
}

/// The last line that a Python client printed: its result. `tools` is the folder of what it needs.
pub(crate) fn python(world: &World, tools: &str, script: &str, args: &[&OsStr]) -> Value {
    let python = repository().join("target/tools").join(tools).join("bin/python");
    let script = client(script);
    let printed = run(world, python, [script.as_os_str()].iter().chain(args));
    serde_json::from_str(printed.lines().last().unwrap())
        .map_err(|_| printed)
        .unwrap()
}

fn is_alices(token: Option<&str>) -> bool {
    token
        .and_then(decode)
        .is_some_and(|token| token.claims["sub"] == "alice@LAB.TEST")
}

fn exchanges(world: &World) -> usize {
    let recorded = world.relay().unwrap().recorded();
    let is_exchange = |line: &str| line.starts_with("POST /oauth2/token ");
    recorded
        .iter()
        .filter(|recorded| is_exchange(&recorded.call.line))
        .count()
}

#[test]
fn curl_gets_in_over_both_versions_of_http() {
    let world = World::builder().record().start().unwrap();
    let one = world.curl_as("alice", "/orders/1").send().unwrap();
    let two = world.curl_as("alice", "/orders/1").http2().send().unwrap();
    for answer in [&one, &two] {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(is_alices(answer.header("x-kerbridge-token")));
    }
    assert_eq!((one.http_version.as_str(), two.http_version.as_str()), ("1.1", "2"));
    assert_eq!(exchanges(&world), 2);
}

#[test]
fn a_client_that_has_no_ticket_hears_so_once_and_nobody_else_does() {
    let world = World::builder().record().start().unwrap();
    // It asks, is told what would do, has nothing, and goes.
    let answer = world.curl_as("a stranger", "/orders/1").send().unwrap();
    assert_eq!(world.reason(&answer).unwrap(), (401, "no_credentials".to_owned()));
    assert_eq!(answer.responses, 1, "{}", answer.text());
    assert!(answer.all("www-authenticate").contains(&"Negotiate"));
    assert_eq!(exchanges(&world), 0);
    assert_eq!(world.access_lines().len(), 1);
}

#[test]
fn requests_gssapi_gets_in_and_takes_the_service_for_proven() {
    let world = World::builder().record().start().unwrap();
    let url = world.url("/orders/1");
    let result = python(
        &world,
        "clients",
        "requests_gssapi_client.py",
        &[url.as_ref(), world.certificates().authority.as_os_str()],
    );
    assert_eq!(result["status"], 200, "{result}");
    assert!(is_alices(result["token"].as_str()), "{result}");
    assert_eq!(exchanges(&world), 1);
}

#[test]
fn pyspnego_gets_in_and_takes_the_service_for_proven() {
    let world = World::builder().record().start().unwrap();
    let port = world.port().to_string();
    let result = python(
        &world,
        "clients",
        "pyspnego_client.py",
        &[
            port.as_ref(),
            "/orders/1".as_ref(),
            world.certificates().authority.as_os_str(),
        ],
    );
    assert_eq!(result["status"], 200, "{result}");
    assert_eq!(result["established"], true, "{result}");
    assert_eq!(result["mechanism"], "kerberos", "{result}");
    assert!(is_alices(result["token"].as_str()), "{result}");
    assert_eq!(exchanges(&world), 1);
}

#[test]
fn javas_jgss_gets_in_and_takes_the_service_for_proven() {
    let world = World::builder().record().start().unwrap();
    let cache = world.ticket("alice").unwrap().path().display().to_string();
    // Without a log-in of its own, Java takes what this entry names.
    let login = world.folder().join("login.conf");
    let entry = format!(
        "com.sun.security.jgss.krb5.initiate {{ com.sun.security.auth.module.Krb5LoginModule required \
         useTicketCache=true doNotPrompt=true ticketCache=\"{cache}\"; }};"
    );
    std::fs::write(&login, entry).unwrap();
    let option = |name: &str, value: &Path| format!("-D{name}={}", value.display());
    for (count, mechanism) in ["spnego", "kerberos"].into_iter().enumerate() {
        let printed = run(
            &world,
            "java",
            [
                "-XX:TieredStopAtLevel=1".to_owned(),
                "-Djavax.security.auth.useSubjectCredsOnly=false".to_owned(),
                option("java.security.krb5.conf", world.kdc().krb5_config()),
                option("java.security.auth.login.config", &login),
                client("JgssClient.java").display().to_string(),
                world.url("/orders/1"),
                world.certificates().authority.display().to_string(),
                mechanism.to_owned(),
            ],
        );
        let lines: Vec<&str> = printed.lines().collect();
        assert_eq!(lines.get(..2), Some(&["200", "true"][..]), "{mechanism}: {printed}");
        assert!(is_alices(lines.get(2).copied()), "{mechanism}: {printed}");
        assert_eq!(exchanges(&world), count.saturating_add(1));
    }
}

#[test]
fn a_browser_gets_in_with_its_users_ticket_and_comes_back_with_its_cookie() {
    if find_program("chromium").is_err() {
        // Setup says so too, where apt has none.
        eprintln!("left out: no chromium");
        return;
    }
    let world = World::builder()
        .record()
        .filter(|filter| {
            for route in filter["routes"].as_array_mut().unwrap() {
                if route["name"] == "orders" {
                    route["accept"] = json!(["negotiate", "bearer", "cookie"]);
                    route["deliver"] = json!("cookie");
                }
            }
        })
        .start()
        .unwrap();
    // Where a browser of this user looks for authorities that its user trusts.
    let trusted = world.folder().join(".pki/nssdb");
    std::fs::create_dir_all(&trusted).unwrap();
    let trusted = format!("sql:{}", trusted.display());
    let authority = world.certificates().authority.display().to_string();
    run(&world, "certutil", ["-N", "-d", &trusted, "--empty-password"]);
    run(
        &world,
        "certutil",
        ["-A", "-d", &trusted, "-n", "lab", "-t", "C,,", "-i", &authority],
    );

    let profile = format!("--user-data-dir={}", world.folder().join("profile").display());
    let visit = || {
        run(
            &world,
            "chromium",
            [
                "--headless=new",
                // As root, as containers are, there is no other way; what is visited is ours.
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--password-store=basic",
                "--auth-server-allowlist=localhost",
                &profile,
                "--dump-dom",
                &world.url("/orders/1"),
            ],
        )
    };
    let is_in = |page: &str| page.contains("x-kerbridge-subject") && page.contains("alice@LAB.TEST");
    // A fresh profile may show the 401 once before it looks for a ticket.
    let pages = [visit(), visit()];
    assert!(is_in(&pages[1]), "{pages:?}");
    let asked = exchanges(&world);
    assert!((1..=2).contains(&asked), "{asked}");
    assert!(is_in(&visit()));
    assert_eq!(exchanges(&world), asked, "the cookie was not used");
    // It was refused nothing but what it came for without a credential.
    let lines = world.access_lines();
    let refused = lines.iter().filter(|line| line["status"] != 200);
    for line in refused.filter(|line| line["path"] != "/favicon.ico") {
        assert_eq!(line["details"], "kerbridge_no_credentials", "{line}");
    }
}
