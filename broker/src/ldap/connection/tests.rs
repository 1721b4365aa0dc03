//! What a hostile directory may say, and where it is stopped. The real ones are in the tests with OpenLDAP and Samba.

use std::path::PathBuf;

use tokio::net::UnixListener;

use super::*;
use crate::ldap::scripted::{Scripted, Then, said};
use crate::ldap::{Filter, Scope};

fn question(most: usize) -> Search {
    Search {
        base: "DC=a".to_owned(),
        scope: Scope::Subtree,
        filter: Filter::Equals("cn".to_owned(), b"a".to_vec()),
        attributes: vec!["cn".to_owned()],
        most,
    }
}

async fn open(server: &Server) -> Result<Connection, LdapError> {
    Connection::open(&server.places[0], &server.bind).await
}

/// What one search over a connection of its own brings.
async fn ask(scripted: &Scripted, most: usize) -> Result<Found, LdapError> {
    let mut connection = open(&scripted.server()).await?;
    connection.search(&question(most), 1).await
}

#[tokio::test]
async fn what_is_found_is_all_pages_and_where_there_is_more() {
    let scripted = Scripted::after_the_bind(|asked| {
        let number = asked.number;
        let name = format!("CN={},DC=a", asked.request);
        Then::Say(if asked.request == 1 {
            let more = said::references(number, &["ldap://b.test/DC=b"]);
            [said::entry(number, &name, &[]), more, said::page(number)].concat()
        } else {
            [said::entry(number, &name, &[]), said::done(number, 0)].concat()
        })
    })
    .await;
    let found = ask(&scripted, 5).await.unwrap();
    let names: Vec<&str> = found.entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["CN=1,DC=a", "CN=2,DC=a"]);
    assert_eq!(found.references, ["ldap://b.test/DC=b"]);
}

#[tokio::test]
async fn a_part_of_an_answer_is_none() {
    // sizeLimitExceeded, timeLimitExceeded, adminLimitExceeded, a referral, and no such object.
    for code in [4, 3, 11, 10, 32] {
        let scripted = Scripted::after_the_bind(move |asked| {
            let entry = said::entry(asked.number, "CN=a", &[]);
            Then::Say([entry, said::done(asked.number, code)].concat())
        })
        .await;
        let outcome = ask(&scripted, 5).await;
        assert!(
            matches!(outcome, Err(LdapError::Refused { request: "search", code: said, .. }) if said == code),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_connection_that_ends_within_a_message_or_between_two_is_an_error() {
    for cut in [0, 1, 7, 20] {
        let scripted = Scripted::after_the_bind(move |asked| {
            let entry = said::entry(asked.number, "CN=a", &[]);
            Then::End(entry[..cut].to_vec())
        })
        .await;
        let outcome = ask(&scripted, 5).await;
        assert!(matches!(outcome, Err(LdapError::Connection(_))), "{cut}: {outcome:?}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off_however_it_goes_on() {
    type Endless = fn(u32) -> Vec<u8>;
    let endless: [(&str, Endless); 5] = [
        ("entries", |number| {
            said::entry(number, "CN=a", &[("cn", "a")]).repeat(500)
        }),
        ("references", |number| {
            said::references(number, &["ldap://b.test/"]).repeat(500)
        }),
        ("pages", |number| {
            [said::entry(number, "CN=a", &[]), said::page(number)].concat()
        }),
        ("empty pages", said::page),
        ("bytes", |number| {
            let long = "a".repeat(1_000_000);
            said::references(number, &[&long])
        }),
    ];
    for (what, bytes) in endless {
        let scripted = Scripted::after_the_bind(move |asked| {
            let bytes = bytes(asked.number);
            let times = if what.ends_with("pages") { 1 } else { 40 };
            Then::Say(bytes.repeat(times))
        })
        .await;
        let outcome = ask(&scripted, 100_000).await;
        let expected = match what {
            "empty pages" => "a page is empty and not the last",
            _ => "it says more than is read for one account",
        };
        assert_eq!(outcome, Err(LdapError::Protocol(expected)), "{what}");
    }
}

#[tokio::test]
async fn more_entries_than_were_asked_for_are_an_error_before_the_end() {
    let scripted = Scripted::after_the_bind(|asked| Then::Say(said::entry(asked.number, "CN=a", &[]).repeat(3))).await;
    let outcome = ask(&scripted, 2).await;
    assert_eq!(outcome, Err(LdapError::Protocol("it has more entries than are read")));
}

#[tokio::test]
async fn each_look_up_has_all_of_its_bytes_and_its_questions_share_them() {
    let scripted = Scripted::after_the_bind(|asked| {
        let long = "a".repeat(900_000);
        let entry = said::entry(asked.number, "CN=a", &[("cn", &long)]);
        Then::Say([entry, said::done(asked.number, 0)].concat())
    })
    .await;
    let mut connection = open(&scripted.server()).await.unwrap();
    for _ in 0..2 {
        connection.begin();
        for _ in 0..4 {
            connection.search(&question(1), 1).await.unwrap();
        }
    }
    let outcome = connection.search(&question(1), 1).await;
    assert_eq!(
        outcome,
        Err(LdapError::Protocol("it says more than is read for one account"))
    );
}

/// Asks for TLS at a server that answers so, and gives what became of it.
async fn start_tls(answer: fn(u32) -> Vec<u8>) -> Result<(), LdapError> {
    let scripted = Scripted::serve(move |asked| {
        assert_eq!(asked.request, 0, "nothing that is LDAP follows");
        Then::Say(answer(asked.number))
    })
    .await;
    let mut server = scripted.server();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    if let Place::Tcp { security, .. } = &mut server.places[0] {
        *security = Security::StartTls(Arc::new(config), ServerName::try_from("a.test").unwrap());
    }
    open(&server).await.map(drop)
}

#[tokio::test]
async fn without_tls_no_password_is_sent_where_tls_was_wanted() {
    // The server refuses it, as one does to which somebody in between speaks.
    let outcome = start_tls(|number| said::tls(number, 2)).await;
    assert!(
        matches!(
            outcome,
            Err(LdapError::Refused {
                request: "starttls",
                code: 2,
                ..
            })
        ),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn what_is_said_in_clear_text_before_tls_is_not_taken_for_what_comes_behind_it() {
    // The bind that is to come behind TLS is answered before it.
    let outcome = start_tls(|number| [said::tls(number, 0), said::bound(2, 0)].concat()).await;
    assert!(matches!(outcome, Err(LdapError::Connection(_))), "{outcome:?}");
}

#[tokio::test]
async fn who_asks_over_a_socket_is_known_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("ldapi");
    let listener = UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read(&mut stream).await.unwrap();
        stream.write_all(&said::bound(2, 0)).await.unwrap();
        request
    });
    Connection::open(&Place::Unix(path), &Bind::External).await.unwrap();
    assert_eq!(server.await.unwrap(), message::bind_external(2));
}

#[test]
fn a_place_is_shown_as_it_is_written() {
    let tcp = |host: &str| Place::Tcp {
        host: host.to_owned(),
        port: 389,
        security: Security::Clear,
    };
    assert_eq!(tcp("::1").to_string(), "ldap://[::1]:389");
    assert_eq!(tcp("a.test").to_string(), "ldap://a.test:389");
    assert_eq!(Place::Unix("/run/ldapi".into()).to_string(), "ldapi, /run/ldapi");
}
