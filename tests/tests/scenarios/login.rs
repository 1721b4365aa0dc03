//! People and scripts get tokens by one command: with their tickets, once for each service, and whatever is wrong is one line with
//! its remedy.

mod trouble;

use std::os::unix::fs::PermissionsExt as _;

use kerbridge_tests::canary;
use kerbridge_tests::oauth_world::OauthWorld;
use kerbridge_tests::person::{Person, Said};
use kerbridge_tests::token::decode;
use serde_json::Value;

/// A lab, and the address of a service of it that says where its tokens come from.
fn lab() -> (OauthWorld, String) {
    let mut lab = OauthWorld::start().unwrap();
    let url = lab.world().url("/orders/1");
    (lab, url)
}

/// Somebody of the lab who trusts its authority, as a machine of the organisation does.
fn person(lab: &mut OauthWorld, user: &str) -> Person {
    let mut person = Person::new(lab.world().client(user)).unwrap();
    person.set("KERBRIDGE_CACERT", lab.authority());
    person
}

/// So many tokens the broker has made for tickets.
fn exchanged(lab: &mut OauthWorld) -> usize {
    lab.world().broker().log().matches("\"message\":\"exchanged\"").count()
}

/// What a command printed, which must have succeeded and complained of nothing.
fn good(said: &Said) -> &str {
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", said.out);
    canary::note(said.out.trim().as_bytes());
    said.out.trim()
}

fn subject(token: &str) -> Value {
    decode(token).unwrap().claims["sub"].clone()
}

fn modes(person: &Person) -> Vec<u32> {
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let files = std::fs::read_dir(person.cache()).unwrap();
    let files = files.map(|entry| mode(&entry.unwrap().path()));
    std::iter::once(mode(&person.cache())).chain(files).collect()
}

#[test]
fn after_kinit_curl_needs_one_command_and_nothing_but_the_address() {
    let (mut lab, url) = lab();
    let alice = person(&mut lab, "alice");
    let before = exchanged(&mut lab);
    let script =
        r#"curl --disable --noproxy '*' -sS -w '%{http_code}' -K <(kerbridge token print --format curl "$1") "$1""#;
    let said = alice.bash(script, &[&url]).unwrap();
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", said.out);
    assert!(said.out.ends_with("200"), "{}", said.out);
    assert_eq!(exchanged(&mut lab), before + 1);
    // Another address of the same service, and again: nobody is asked.
    let token = alice
        .kerbridge(&["token", "print", &lab.world().url("/orders/2?x=y")])
        .unwrap();
    let token = good(&token);
    assert_eq!(subject(token), "alice@LAB.TEST");
    assert_eq!(super::oauth::opens(&mut lab, "/orders/1", token), 200);
    assert_eq!(exchanged(&mut lab), before + 1);
    assert!(modes(&alice).iter().skip(1).all(|mode| *mode == 0o600));
    assert_eq!(modes(&alice).first(), Some(&0o700));
    // With the address in a file of settings, there is nothing to be said at all.
    let settings = alice.home().join(".config/kerbridge");
    std::fs::create_dir_all(&settings).unwrap();
    std::fs::write(settings.join("client.toml"), format!("url = {url:?}\n")).unwrap();
    let header = alice.kerbridge(&["token", "print", "--format", "header"]).unwrap();
    assert_eq!(good(&header), format!("Authorization: Bearer {token}"));
    // Somebody else on this machine's account, with tickets of their own, gets none of it.
    let mut alice = alice;
    for (name, value) in lab.world().client("bob") {
        alice.set(name, value);
    }
    let other = alice.kerbridge(&["token", "print"]).unwrap();
    assert_eq!(subject(good(&other)), "bob@LAB.TEST");
}

#[test]
fn a_keytab_gets_a_token_by_name_at_the_broker_in_each_form() {
    let (mut lab, _) = lab();
    let kdc = lab.world().kdc();
    let script = "script@LAB.TEST";
    kdc.add_service("alice/script").unwrap();
    let keytab = lab.world().folder().join("script.keytab");
    lab.world().kdc().extract_keytab(&["alice/script"], &keytab).unwrap();
    let policy = lab.world().broker().folder().join("policy.toml");
    let text = std::fs::read_to_string(&policy).unwrap();
    let grant = "[[grant]]\nprincipals = [\"alice/script@LAB.TEST\"]\naudience = \"orders\"\nscopes = [\"orders:read\"]\n[filter]\n";
    lab.world()
        .broker()
        .set_policy(&text.replacen("[filter]\n", grant, 1))
        .unwrap();
    lab.world().broker().stop().unwrap();
    lab.world().broker().start().unwrap();
    let nobody = person(&mut lab, "nobody");
    let (issuer, keytab) = (lab.issuer(), keytab.display().to_string());
    let of = |format: &str| {
        let args = [
            "token",
            "print",
            "--issuer",
            &issuer,
            "--audience",
            "orders",
            "--keytab",
            &keytab,
            "--principal",
            "alice/script@LAB.TEST",
            "--scope",
            "orders:read",
            "--format",
            format,
        ];
        nobody.kerbridge(&args).unwrap()
    };
    let (json, bare, credential) = (of("json"), of("token"), of("exec-credential"));
    let token = good(&bare);
    assert_eq!(subject(token), "alice/script@LAB.TEST", "{script}");
    let json = json.json();
    assert_eq!(json["access_token"], token);
    assert_eq!(json["audience"], "orders");
    assert_eq!(json["scope"], "orders:read");
    assert_eq!(json["principal"], "alice/script@LAB.TEST");
    assert!(json["expires_in"].as_u64().unwrap() > 0);
    let credential = credential.json();
    assert_eq!(credential["kind"], "ExecCredential");
    assert_eq!(credential["status"]["token"], token);
    assert_eq!(credential["status"]["expirationTimestamp"], json["expires_at"]);
    assert_eq!(super::oauth::opens(&mut lab, "/orders/1", token), 200);
}

#[test]
fn those_who_ask_at_once_make_one_exchange() {
    let (mut lab, url) = lab();
    let alice = person(&mut lab, "alice");
    let before = exchanged(&mut lab);
    let script = r#"for i in 1 2 3 4 5 6 7 8 9 10 11 12; do kerbridge token print "$1" & done; wait"#;
    let said = alice.bash(script, &[&url]).unwrap();
    let tokens: Vec<&str> = said.out.lines().collect();
    for token in &tokens {
        canary::note(token.as_bytes());
    }
    assert_eq!((tokens.len(), said.err.as_str()), (12, ""));
    assert!(tokens.iter().all(|token| token == &tokens[0]));
    assert_eq!(exchanged(&mut lab), before + 1);
}

#[test]
fn a_token_is_renewed_before_its_end_and_outlives_a_broker_that_is_away() {
    let (mut lab, url) = lab();
    let alice = person(&mut lab, "alice");
    let first = alice.kerbridge(&["token", "print", &url]).unwrap();
    let first = good(&first).to_owned();
    // As if two thirds of its life were over, and then more than three fourths.
    let file = |alice: &Person| {
        let files = std::fs::read_dir(alice.cache())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        files
            .into_iter()
            .find(|path| path.extension().is_some_and(|end| end == "json"))
            .unwrap()
    };
    let age = |alice: &Person, share: u64| {
        let file = file(alice);
        let mut kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let life = kept["expires_at"].as_u64().unwrap() - kerbridge_tests::token::now();
        kept["issued_at"] = (kerbridge_tests::token::now() - life * share).into();
        std::fs::write(&file, kept.to_string()).unwrap();
    };
    age(&alice, 2);
    assert_eq!(good(&alice.kerbridge(&["token", "print", &url]).unwrap()), first);
    age(&alice, 4);
    let second = alice.kerbridge(&["token", "print", &url]).unwrap();
    let second = good(&second).to_owned();
    assert_ne!(first, second);
    age(&alice, 4);
    lab.world().broker().stop().unwrap();
    assert_eq!(good(&alice.kerbridge(&["token", "print", &url]).unwrap()), second);
    // Who wants a new one hears that there is none.
    let login = alice.kerbridge(&["login", &url]).unwrap();
    assert_eq!((login.code, login.out.as_str()), (75, ""), "{}", login.err);
}

#[test]
fn logging_out_takes_the_token_back_and_forgets_it() {
    let (mut lab, url) = lab();
    let alice = person(&mut lab, "alice");
    let login = alice.kerbridge(&["login", &url, "--output", "json"]).unwrap();
    good(&login);
    assert_eq!(login.json()["principal"], "alice@LAB.TEST");
    assert!(!login.out.contains("eyJ"), "{}", login.out);
    // What the login was for need not be said again.
    let token = alice.kerbridge(&["token", "print"]).unwrap();
    let token = good(&token).to_owned();
    assert_eq!(super::oauth::opens(&mut lab, "/orders/1", &token), 200);
    let out = alice.kerbridge(&["logout", "--output", "json"]).unwrap();
    good(&out);
    assert_eq!(out.json()["revoked"], 1);
    kerbridge_tests::wait::wait_until("the token to be refused", std::time::Duration::from_secs(30), || {
        super::oauth::opens(&mut lab, "/orders/1", &token) == 401
    })
    .unwrap();
    assert_eq!(good(&alice.kerbridge(&["logout"]).unwrap()), "no token was kept");
    let forgotten = alice.kerbridge(&["token", "print"]).unwrap();
    assert_eq!(forgotten.code, 64, "{}", forgotten.err);
    // A broker that is away takes nothing back; the token is forgotten all the same, and the line says until when it stands.
    good(&alice.kerbridge(&["login", &url]).unwrap());
    lab.world().broker().stop().unwrap();
    let away = alice.kerbridge(&["logout"]).unwrap();
    assert_eq!((away.code, away.out.as_str()), (75, ""));
    assert!(away.err.contains("good until"), "{}", away.err);
    assert_eq!(good(&alice.kerbridge(&["logout"]).unwrap()), "no token was kept");
}

#[test]
fn the_ticket_is_bound_to_the_connection_where_the_broker_wants_that() {
    let (mut lab, url) = lab();
    let certificate = lab.world().certificates().certificate.display().to_string();
    let bindings = format!(
        "[kerberos.channel_bindings]\nmode = \"require\"\n\n[[kerberos.channel_bindings.certificate]]\nserver_names = [\"localhost\"]\n\
         file = {certificate:?}\n\n[kerberos]\n"
    );
    let broker = lab.world().broker();
    broker.stop().unwrap();
    broker.configure("[kerberos]\n", &bindings).unwrap();
    broker.start().unwrap();
    let alice = person(&mut lab, "alice");
    let unbound = alice
        .kerbridge(&["token", "print", &url, "--no-channel-binding"])
        .unwrap();
    assert_eq!((unbound.code, unbound.out.as_str()), (77, ""), "{}", unbound.err);
    let token = alice.kerbridge(&["token", "print", &url]).unwrap();
    let token = decode(good(&token)).unwrap();
    assert_eq!(token.claims["kerbridge_cb"], true);
    assert!(lab.world().broker().log().contains("channel_binding_missing"));
}
