//! A run that has everything that a report can show.

use kerbridge_tests::report::model::{
    Credential, Direction, Holder, Holding, Kdc, Leg, Outcome, Record, Run, Scenario, Setup, Step, Store,
};

/// One scenario of each outcome, each leg and each credential.
pub(crate) fn run() -> Run {
    Run {
        title: "MIT Kerberos, one broker, redb".to_owned(),
        started: 1_795_678_000,
        duration_ms: 41_250,
        setup: Setup {
            kdc: Kdc::Mit,
            brokers: 1,
            store: Store::Redb,
            yours: false,
            broken: None,
            versions: [
                ("kerbridge", "0.1.0"),
                ("Envoy", "1.36.4"),
                ("MIT krb5", "1.20.1"),
                ("curl", "7.88.1"),
            ]
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .to_vec(),
        },
        scenarios: vec![expiry(), delegation(), skew(), big_pac()],
        notices: vec!["The access log of Envoy was written up to ten seconds late.".to_owned()],
    }
}

fn record(leg: Leg, at_ms: u64, direction: Direction, summary: &str, lines: &[&str]) -> Record {
    Record {
        leg,
        at_ms,
        direction,
        summary: summary.to_owned(),
        lines: lines.iter().map(|&line| line.to_owned()).collect(),
    }
}

fn asked(leg: Leg, at_ms: u64, summary: &str, lines: &[&str]) -> Record {
    record(leg, at_ms, Direction::Request, summary, lines)
}

fn answered(leg: Leg, at_ms: u64, summary: &str, lines: &[&str]) -> Record {
    record(leg, at_ms, Direction::Response, summary, lines)
}

fn step(at_ms: u64, title: &str, expected: &str, seen: &str, legs: Vec<Record>) -> Step {
    Step {
        at_ms,
        title: title.to_owned(),
        expected: expected.to_owned(),
        seen: seen.to_owned(),
        held: true,
        cause: None,
        remedy: None,
        legs,
    }
}

fn held(who: Holder, credential: Credential, label: &str, from_ms: u64, until_ms: Option<u64>, note: &str) -> Holding {
    Holding {
        who,
        credential,
        label: label.to_owned(),
        from_ms,
        until_ms,
        note: note.to_owned(),
    }
}

const TICKET: &str = "authorization: Negotiate YIICkgYG… (1184 characters, masked)";
const TOKEN: &str = "authorization: Bearer eyJhbGci… (612 characters, masked)";

fn expiry() -> Scenario {
    Scenario {
        name: "expiry".to_owned(),
        title: "A token ends in the middle of traffic".to_owned(),
        purpose: "A token opens until its very end and not a second longer, and whoever still has a ticket gets the next one at once."
            .to_owned(),
        outcome: Outcome::Passed,
        duration_ms: 9_480,
        holdings: vec![
            held(Holder::Client, Credential::Ticket, "alice@LAB.TEST for HTTP/localhost", 0, None, "AES256, ends in 10 hours"),
            held(Holder::Broker, Credential::ApReq, "alice's ticket, shown once", 21, Some(21), "SHA-256 of the authenticator noted"),
            held(Holder::Client, Credential::Token, "orders, 8 s", 34, Some(8_034), "eyJhbGci… (612 characters, masked)"),
            held(Holder::Filter, Credential::Token, "orders, verified and remembered", 35, Some(8_034), "its claims, not the token"),
            held(Holder::Client, Credential::Cookie, "orders, in the browser's jar", 9_460, None, "__Host-kerbridge-… (640 characters, masked)"),
        ],
        steps: vec![
            step(
                12,
                "alice shows her ticket",
                "200, and a token for orders that ends in 8 seconds",
                "200, and a token for orders that ends in 8 seconds",
                vec![
                    asked(Leg::Kdc, 13, "TGS-REQ: HTTP/localhost for alice@LAB.TEST", &["etypes aes256-cts-hmac-sha1-96, aes128-cts-hmac-sha1-96"]),
                    answered(Leg::Kdc, 15, "TGS-REP: a ticket, aes256-cts-hmac-sha1-96", &[]),
                    asked(Leg::Client, 16, "GET /orders/1 with a ticket", &["GET /orders/1 HTTP/1.1", "host: localhost", TICKET]),
                    asked(Leg::Broker, 18, "POST /oauth2/token", &["grant_type=urn:ietf:params:oauth:grant-type:token-exchange", "audience=orders", "subject_token=YIICkgYG… (1184 characters, masked)"]),
                    answered(Leg::Broker, 33, "200, a token", &["HTTP/1.1 200", "access_token=eyJhbGci… (612 characters, masked)", "expires_in=8"]),
                    asked(Leg::Upstream, 34, "GET /orders/1 as alice@LAB.TEST", &["GET /orders/1 HTTP/1.1", "x-kerbridge-subject: alice@LAB.TEST"]),
                    answered(Leg::Upstream, 35, "200", &[]),
                    answered(Leg::Client, 36, "200, x-kerbridge-token", &["HTTP/1.1 200", "x-kerbridge-token: eyJhbGci… (612 characters, masked)"]),
                ],
            ),
            step(
                40,
                "the token alone, while it is good",
                "200 each time, and nothing asked of the broker",
                "200 for 396 requests, 0 requests to the broker",
                vec![
                    asked(Leg::Client, 41, "GET /orders/1 with the token, 396 times", &["GET /orders/1 HTTP/1.1", TOKEN]),
                    answered(Leg::Client, 8_012, "200, 396 times", &["HTTP/1.1 200"]),
                ],
            ),
            step(
                8_040,
                "the same token, a second later",
                "401 token_expired",
                "401 token_expired",
                vec![
                    asked(Leg::Client, 8_041, "GET /orders/1 with the token", &["GET /orders/1 HTTP/1.1", TOKEN]),
                    answered(Leg::Client, 8_043, "401, token_expired", &["HTTP/1.1 401", "www-authenticate: Negotiate", "www-authenticate: Bearer error=\"invalid_token\""]),
                ],
            ),
            step(
                9_440,
                "alice shows her ticket again, as a browser",
                "200 and a cookie",
                "200 and a cookie",
                vec![
                    asked(Leg::Client, 9_441, "GET /orders/1 with a ticket", &["GET /orders/1 HTTP/1.1", TICKET]),
                    asked(Leg::Broker, 9_443, "POST /oauth2/token", &[]),
                    answered(Leg::Broker, 9_458, "200, a token", &[]),
                    answered(Leg::Client, 9_460, "200, set-cookie", &["HTTP/1.1 200", "set-cookie: __Host-kerbridge-… (640 characters, masked)"]),
                ],
            ),
        ],
    }
}

fn delegation() -> Scenario {
    Scenario {
        name: "delegation-allowed".to_owned(),
        title: "A token opens a service that takes Kerberos only".to_owned(),
        purpose: "Where the policy and the KDC both allow it, the service behind Envoy sees a ticket in the caller's own name.".to_owned(),
        outcome: Outcome::Passed,
        duration_ms: 96,
        holdings: vec![
            held(Holder::Client, Credential::Token, "legacy, 5 min", 0, None, "eyJhbGci… (702 characters, masked)"),
            held(Holder::Broker, Credential::ServiceTicket, "alice@LAB.TEST for HTTP/legacy.lab.test", 41, None, "in memory, AES256"),
            held(Holder::Upstream, Credential::ApReq, "alice's, fresh", 52, Some(52), "YIIC3gYG… (1260 characters, masked)"),
        ],
        steps: vec![step(
            4,
            "GET /legacy with a token and no ticket",
            "200, and Apache says REMOTE_USER=alice@LAB.TEST",
            "200, and Apache says REMOTE_USER=alice@LAB.TEST",
            vec![
                asked(Leg::Client, 5, "GET /legacy with the token", &["GET /legacy HTTP/1.1", TOKEN]),
                asked(Leg::Broker, 8, "POST /delegate", &["spn=HTTP/legacy.lab.test"]),
                asked(Leg::Kdc, 14, "TGS-REQ with S4U2Self: alice@LAB.TEST", &["padata PA-FOR-USER"]),
                answered(Leg::Kdc, 19, "TGS-REP", &[]),
                asked(Leg::Kdc, 24, "TGS-REQ with S4U2Proxy: HTTP/legacy.lab.test", &["options cname-in-addl-tkt"]),
                answered(Leg::Kdc, 40, "TGS-REP", &[]),
                answered(Leg::Broker, 45, "200, an AP-REQ", &["negotiate=YIIC3gYG… (1260 characters, masked)"]),
                asked(Leg::Upstream, 50, "GET /legacy with a ticket", &["authorization: Negotiate YIIC3gYG… (1260 characters, masked)"]),
                answered(Leg::Upstream, 80, "200", &["{\"remote_user\":\"alice@LAB.TEST\"}"]),
                answered(Leg::Client, 84, "200", &["{\"remote_user\":\"alice@LAB.TEST\"}"]),
            ],
        )],
    }
}

fn skew() -> Scenario {
    let mut steps = vec![
        step(
            3,
            "a ticket of a client whose clock is right",
            "200",
            "401 clock_skew",
            vec![
                asked(
                    Leg::Client,
                    4,
                    "GET /orders/1 with a ticket",
                    &["GET /orders/1 HTTP/1.1", TICKET],
                ),
                asked(Leg::Broker, 6, "POST /oauth2/token", &[]),
                answered(
                    Leg::Broker,
                    11,
                    "400 invalid_request, reason clock_skew",
                    &[
                        "HTTP/1.1 400",
                        "{\"error\":\"invalid_request\",\"reason\":\"clock_skew\"}",
                    ],
                ),
                answered(Leg::Client, 12, "401", &["HTTP/1.1 401", "www-authenticate: Negotiate"]),
            ],
        ),
        step(
            20,
            "a request without a ticket",
            "401 no_credentials",
            "401 no_credentials",
            Vec::new(),
        ),
    ];
    if let Some(first) = steps.first_mut() {
        first.held = false;
        first.cause = Some("The broker's clock is 372 s behind that of the KDC (clock_skew).".to_owned());
        first.remedy = Some("Set the clock of the broker's machine by NTP: it is 372 s behind the KDC's.".to_owned());
    }
    Scenario {
        name: "skew".to_owned(),
        title: "Clocks that differ".to_owned(),
        purpose: "A ticket is taken within five minutes of difference and refused by name beyond.".to_owned(),
        outcome: Scenario::outcome_of(&steps),
        duration_ms: 40,
        holdings: vec![held(
            Holder::Client,
            Credential::Ticket,
            "alice@LAB.TEST for HTTP/localhost",
            0,
            None,
            "AES256",
        )],
        steps,
    }
}

fn big_pac() -> Scenario {
    Scenario {
        name: "big-pac".to_owned(),
        title: "A ticket with five hundred groups".to_owned(),
        purpose: "A ticket as large as Active Directory makes them passes Envoy's limits and is read whole.".to_owned(),
        outcome: Outcome::NotSeen {
            why: "The lab's MIT KDC writes no groups into its tickets.".to_owned(),
            remedy: "Run it with --kdc samba.".to_owned(),
        },
        duration_ms: 1,
        holdings: Vec::new(),
        steps: Vec::new(),
    }
}

/// The same with texts that want to be markup, that never end and that turn lines around.
pub(crate) fn hostile() -> Run {
    let nasty = format!(
        "</title></style></script><script>window.harmed=1</script><img src=x onerror=\"window.harmed=1\">]]>--> & \u{202e}\u{0}\u{7} ﷽ {} {}",
        "W".repeat(3_000),
        "汉".repeat(400)
    );
    let mut run = run();
    run.title.clone_from(&nasty);
    run.setup.versions.push((nasty.clone(), nasty.clone()));
    run.notices.push(nasty.clone());
    for scenario in &mut run.scenarios {
        for text in [&mut scenario.name, &mut scenario.title, &mut scenario.purpose] {
            text.clone_from(&nasty);
        }
        if let Outcome::NotSeen { why, remedy } = &mut scenario.outcome {
            why.clone_from(&nasty);
            remedy.clone_from(&nasty);
        }
        for holding in &mut scenario.holdings {
            holding.label.clone_from(&nasty);
            holding.note.clone_from(&nasty);
            holding.until_ms = Some(u64::MAX);
        }
        for step in &mut scenario.steps {
            for text in [&mut step.title, &mut step.expected, &mut step.seen] {
                text.clone_from(&nasty);
            }
            step.cause = Some(nasty.clone());
            step.remedy = Some(nasty.clone());
            for record in &mut step.legs {
                record.summary.clone_from(&nasty);
                record.lines.push(nasty.clone());
            }
        }
    }
    run
}
