use super::*;
use crate::curl::Curl;
use crate::http;
use crate::kdc::{Ccache, Kdc};
use crate::wait::wait_until;

const SERVICE: &str = "HTTP/localhost";

fn realm() -> (Kdc, PathBuf, Ccache) {
    let kdc = Kdc::start("LAB.TEST").unwrap();
    kdc.add_service(SERVICE).unwrap();
    kdc.add_user("alice", "correct horse").unwrap();
    let keytab = kdc.folder().join("http.keytab");
    kdc.extract_keytab(&[SERVICE], &keytab).unwrap();
    let ticket = kdc.kinit("alice").unwrap();
    (kdc, keytab, ticket)
}

fn environment(kdc: &Kdc, ticket: &Ccache) -> Vec<(&'static str, std::ffi::OsString)> {
    vec![
        ("KRB5_CONFIG", kdc.krb5_config().into()),
        ("KRB5CCNAME", ticket.path().into()),
    ]
}

#[test]
fn a_ticket_opens_it_and_it_says_who_came_and_nothing_else_does() {
    let (kdc, keytab, ticket) = realm();
    let apache = Apache::start(&keytab).unwrap();
    let url = format!("http://localhost:{}/orders?page=2", apache.port());

    let refused = Curl::new(&url).send().unwrap();
    assert_eq!(
        (refused.status, refused.header("www-authenticate")),
        (401, Some("Negotiate"))
    );
    let bearer = Curl::new(&url).header("Authorization: Bearer abc").send().unwrap();
    assert_eq!(bearer.status, 401);

    let answer = Curl::new(&url)
        .header("X-Odd: a\"b\\c%\u{e9}")
        .negotiate(environment(&kdc, &ticket))
        .send()
        .unwrap();
    assert_eq!(answer.status, 200, "{}", apache.log());
    let shown = answer.json();
    assert_eq!(remote_user(&shown), Some("alice@LAB.TEST"));
    assert_eq!(
        (&shown["method"], &shown["target"]),
        (&"GET".into(), &"/orders?page=2".into())
    );
    assert!(
        shown["headers"]
            .as_array()
            .unwrap()
            .contains(&serde_json::json!(["X-Odd", "a\"b\\c%25%C3%A9"])),
        "{shown}"
    );
    let received = received(&shown).unwrap();
    assert_eq!(received.line, "GET /orders?page=2");
    assert_eq!(received.header("x-odd"), Some(b"a\"b\\c%25%C3%A9".as_slice()));
    assert!(super::received(&serde_json::json!({"method": "GET"})).is_none());

    wait_until("the last line of its log", Duration::from_secs(5), || {
        apache.served().unwrap().iter().any(|served| served.user.is_some())
    })
    .unwrap();
    let served = apache.served().unwrap();
    let last = served.last().unwrap();
    assert_eq!((last.status, last.target.as_str()), (200, "/orders?page=2"));
    assert!(last.authorization.as_ref().unwrap().starts_with("Negotiate "));
    assert!(last.challenge.as_ref().unwrap().starts_with("Negotiate o"));
    let first = served.first().unwrap();
    assert_eq!(
        (&first.authorization, first.challenge.as_deref()),
        (&None, Some("Negotiate"))
    );

    // The same bytes again: a proxy that does not make a new one for each attempt is seen.
    let request = http::Request::get("/").header("authorization", last.authorization.clone().unwrap());
    assert_eq!(http::send(apache.port(), &request).unwrap().status, 401);
    assert!(apache.log().contains("replay"), "{}", apache.log());
}

#[test]
fn a_request_can_be_made_to_fail_once_and_a_connection_keeps_nobody() {
    let (kdc, keytab, ticket) = realm();
    let apache = Apache::start(&keytab).unwrap();
    let url = format!("http://localhost:{}/?fail=once", apache.port());
    let send = || {
        Curl::new(&url)
            .negotiate(environment(&kdc, &ticket))
            .send()
            .unwrap()
            .status
    };
    assert_eq!((send(), send()), (503, 200));

    // Two requests on one connection, the second without a ticket.
    let plain = format!("http://localhost:{}/plain", apache.port());
    Curl::new(&plain)
        .negotiate(environment(&kdc, &ticket))
        .arg(plain.replace("plain", "mine"))
        .arg("--next")
        .arg("--http1.1")
        .send()
        .unwrap();
    let of = |target: &str| {
        apache
            .served()
            .unwrap()
            .into_iter()
            .find(|served| served.target == target)
    };
    wait_until("both requests in its log", Duration::from_secs(5), || {
        of("/plain").is_some()
    })
    .unwrap();
    let (mine, plain) = (of("/mine").unwrap(), of("/plain").unwrap());
    assert_eq!((mine.status, mine.user.as_deref()), (200, Some("alice@LAB.TEST")));
    assert_eq!(
        (plain.status, plain.user, plain.client_port),
        (401, None, mine.client_port)
    );
}

#[test]
fn over_tls_it_shows_the_labs_certificate_and_leaves_no_process() {
    let (kdc, keytab, ticket) = realm();
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::create(folder.path()).unwrap();
    let mut apache = Apache::start_with_tls(&keytab, &certificates).unwrap();
    let url = format!("https://localhost:{}/", apache.port());
    let answer = Curl::new(&url)
        .trusting(&certificates.authority)
        .negotiate(environment(&kdc, &ticket))
        .send()
        .unwrap();
    assert_eq!(remote_user(&answer.json()), Some("alice@LAB.TEST"));
    let process = PathBuf::from(format!("/proc/{}", apache.process().pid()));
    assert!(process.exists());
    drop(apache);
    assert!(!process.exists());
}
