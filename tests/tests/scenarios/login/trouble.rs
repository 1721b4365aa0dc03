//! What goes wrong for people, each by its word, its exit code and one line with a remedy.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use kerbridge_tests::certificates::Certificates;
use kerbridge_tests::kdc::Kdc;
use kerbridge_tests::person::{Person, Said};
use kerbridge_tests::port::free_tcp;

use super::{good, lab, person};

/// One line for people with these words; and the same as JSON by this word, with nothing beside it.
fn assert_trouble(person: &Person, args: &[&str], code: i32, error: &str, words: &str) {
    let said = person.kerbridge(args).unwrap();
    assert_line(&said, code, words);
    let form: &[&str] = if args.first() == Some(&"token") {
        &["--format", "json"]
    } else {
        &["--output", "json"]
    };
    let json = person.kerbridge(&[args, form].concat()).unwrap();
    let value = json.json();
    assert_eq!((json.code, json.err.as_str()), (code, ""), "{}", json.out);
    assert_eq!(value["error"], error, "{}", json.out);
    for member in ["problem", "remedy"] {
        assert!(value[member].as_str().is_some_and(|text| !text.is_empty()), "{value}");
    }
}

fn assert_line(said: &Said, code: i32, words: &str) {
    assert_eq!((said.code, said.out.as_str()), (code, ""), "{}", said.err);
    assert!(said.err.starts_with("kerbridge: "), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    assert!(said.err.contains(words), "{words}: {}", said.err);
}

#[test]
fn whatever_is_wrong_is_one_line_with_a_remedy_and_the_right_exit_code() {
    let (mut lab, url) = lab();
    let authority = lab.authority();
    let mut alice = person(&mut lab, "alice");
    let (issuer, dead) = (
        lab.issuer(),
        format!("https://localhost:{}/orders", free_tcp().unwrap()),
    );
    let elsewhere = lab.world().url("/nothing");
    let folder = lab.world().folder().to_owned();
    let other = folder.join("other");
    std::fs::create_dir_all(&other).unwrap();
    let other = Certificates::create(&other).unwrap();
    let other = other.authority.display().to_string();
    let named =
        |audience: &'static str| ["token", "print", "--issuer", &issuer, "--audience", audience].map(str::to_owned);
    let (orders, unknown) = (named("orders"), named("nowhere"));
    let (orders, unknown): (Vec<&str>, Vec<&str>) = (
        orders.iter().map(String::as_str).collect(),
        unknown.iter().map(String::as_str).collect(),
    );
    let print = ["token", "print"];
    let with = |args: &[&'static str]| [&print[..], &[url.as_str()], args].concat();
    for (args, code, error, words) in [
        (print.to_vec(), 64, "no_target", "name the address"),
        (vec!["token", "print", "http://localhost/"], 64, "no_target", "https://"),
        (
            with(&["--cacert", "/nonexistent/ca.pem"]),
            64,
            "file_unusable",
            "/nonexistent/ca.pem",
        ),
        (
            with(&["--config", "/nonexistent/client.toml"]),
            64,
            "file_unusable",
            "client.toml",
        ),
        (
            with(&["--keytab", "/nonexistent/keytab", "--principal", "alice@LAB.TEST"]),
            64,
            "file_unusable",
            "/nonexistent/keytab",
        ),
        (
            with(&["--ccache", "FILE:/nonexistent/tickets"]),
            77,
            "no_ticket",
            "run kinit",
        ),
        (
            with(&["--principal", "somebody@LAB.TEST"]),
            77,
            "no_ticket",
            "run kinit somebody@LAB.TEST",
        ),
        (
            with(&["--service", "HTTP/nowhere@LAB.TEST"]),
            77,
            "service_unknown",
            "--service",
        ),
        (with(&["--cache", "/proc/kerbridge"]), 77, "cache_unusable", "--cache"),
        (vec!["login", &dead], 75, "unreachable", "check the address"),
        (vec!["token", "print", &elsewhere], 64, "not_described", "--audience"),
        (
            [&orders[..], &["--cacert", &other]].concat(),
            76,
            "certificate_refused",
            "--cacert",
        ),
        (unknown, 77, "denied", "policy explain"),
        (
            [&orders[..], &["--scope", "orders:everything"]].concat(),
            77,
            "denied",
            "--scope",
        ),
    ] {
        assert_trouble(&alice, &args, code, error, words);
    }
    // Options that are none, and those that go with others only.
    for args in [
        &["token", "print", "--frobnicate"][..],
        &["login", "--keytab", "x"],
        &["token", "frobnicate"],
    ] {
        let said = alice.kerbridge(args).unwrap();
        assert_eq!((said.code, said.out.as_str()), (64, ""));
        assert!(
            said.err.starts_with("error: ") && said.err.contains("--help"),
            "{}",
            said.err
        );
    }
    // Nothing of that was kept.
    assert!(
        std::fs::read_dir(alice.cache())
            .unwrap()
            .all(|entry| entry.unwrap().path().extension().unwrap() != "json")
    );
    // A folder that others look into, and a link in its place.
    std::fs::set_permissions(alice.cache(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_trouble(&alice, &with(&[]), 77, "cache_unusable", "chmod 700");
    std::fs::set_permissions(alice.cache(), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::rename(alice.cache(), alice.home().join("mine")).unwrap();
    symlink(alice.home().join("mine"), alice.cache()).unwrap();
    assert_trouble(&alice, &with(&[]), 77, "cache_unusable", "a link is not followed");
    std::fs::remove_file(alice.cache()).unwrap();
    // A file of settings with a mistake.
    let settings = alice.home().join(".config/kerbridge/client.toml");
    std::fs::create_dir_all(settings.parent().unwrap()).unwrap();
    std::fs::write(&settings, "urls = 'x'\n").unwrap();
    assert_trouble(&alice, &print, 78, "settings_wrong", "client.toml");
    std::fs::remove_file(&settings).unwrap();
    // The authority is nobody's whom this machine knows.
    alice.set("KERBRIDGE_CACERT", "");
    assert_trouble(&alice, &with(&[]), 76, "certificate_refused", "--cacert");
    alice.set("KERBRIDGE_CACERT", &authority);
    good(&alice.kerbridge(&with(&[])).unwrap());
    // A token is kept; a file that is no good is noticed all the same.
    let absent = with(&["--cacert", "/nonexistent/ca.pem"]);
    assert_trouble(&alice, &absent, 64, "file_unusable", "/nonexistent/ca.pem");
}

#[test]
fn tickets_that_are_no_good_are_told_apart() {
    let (mut lab, url) = lab();
    let print = ["token", "print", url.as_str()];
    let nobody = person(&mut lab, "nobody");
    assert_trouble(&nobody, &print, 77, "no_ticket", "run kinit");
    // The KDC has another key than the keytab.
    let keytab = lab.world().folder().join("old.keytab");
    lab.world().kdc().add_service("old/script").unwrap();
    lab.world().kdc().extract_keytab(&["old/script"], &keytab).unwrap();
    lab.world().kdc().rotate_key("old/script").unwrap();
    let keytab = keytab.display().to_string();
    let with_keytab = |name| [&print[..], &["--keytab", &keytab, "--principal", name]].concat();
    assert_trouble(
        &nobody,
        &with_keytab("old/script@LAB.TEST"),
        77,
        "login_refused",
        "kinit -k -t",
    );
    assert_trouble(
        &nobody,
        &with_keytab("alice@LAB.TEST"),
        77,
        "login_refused",
        "no key of alice@LAB.TEST, but of old/script@LAB.TEST",
    );
    // Tickets that have ended.
    let short = lab.world().kdc().kinit_with("alice", &["-l", "2s"]).unwrap();
    let mut alice = person(&mut lab, "alice");
    alice.set("KRB5CCNAME", short.path());
    kerbridge_tests::wait::wait_until("the tickets to end", std::time::Duration::from_secs(60), || {
        let said = alice.kerbridge(&print).unwrap();
        said.code == 77 && said.err.contains("have ended")
    })
    .unwrap();
    assert_trouble(&alice, &print, 77, "ticket_expired", "run kinit");
    // Of a realm whose KDC does not know the broker, and without any KDC.
    let foreign = Kdc::start("OTHER.TEST").unwrap();
    foreign.add_user("carol", "password").unwrap();
    let mut carol = person(&mut lab, "nobody");
    carol.set("KRB5_CONFIG", foreign.krb5_config());
    carol.set("KRB5CCNAME", foreign.kinit("carol").unwrap().path());
    assert_trouble(&carol, &print, 77, "service_unknown", "--service");
    lab.world().stop_kdc().unwrap();
    // Her cache has a ticket for the broker by now; his has none.
    let alone = person(&mut lab, "bob");
    let said = alone.kerbridge(&print).unwrap();
    assert_eq!((said.code, said.err.lines().count()), (75, 1), "{}", said.err);
}
