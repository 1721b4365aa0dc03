//! What a directory that is away, slow or hostile leads to. What a real one says is in the tests with a Samba domain.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use zeroize::Zeroizing;

use super::*;
use crate::ldap::Security;

fn directory(port: u16, keep: Duration) -> Directory {
    Directory::new(DirectoryConfig {
        server: Server {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port,
            security: Security::Clear,
            bind_name: "CN=reader".to_owned(),
            password: Arc::new(Zeroizing::new("Correct-horse-7".to_owned())),
        },
        base: "DC=a".to_owned(),
        find_by: FindBy::Sid,
        nested: Nested::Chain,
        name_attribute: "cn".to_owned(),
        keep,
    })
}

async fn ask(directory: &Directory, within: Duration) -> Result<GroupSet, GroupsError> {
    let account = Account::Principal {
        attribute: "uid",
        value: "alice@A.TEST",
    };
    let deadline = Instant::now().checked_add(within).unwrap();
    directory
        .groups_of(&account, UnixTime::from_seconds(2000), deadline)
        .await
}

/// A server that sends these bytes to each that connects, and then keeps quiet; its port.
async fn server(bytes: Vec<u8>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut open: Vec<TcpStream> = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 512];
            if stream.read(&mut request).await.is_ok() && stream.write_all(&bytes).await.is_ok() {
                open.push(stream);
            }
        }
    });
    port
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_directory_that_keeps_quiet_is_waited_for_until_the_deadline_and_no_longer() {
    let port = server(Vec::new()).await;
    let began = Instant::now();
    let outcome = ask(&directory(port, SECOND), Duration::from_millis(100)).await;
    assert_eq!(outcome, Err(GroupsError::TooSlow));
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_directory_that_is_away_is_an_error_at_once() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let outcome = ask(&directory(port, SECOND), 60 * SECOND).await;
    assert!(
        matches!(&outcome, Err(GroupsError::Directory(LdapError::Connection(_)))),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn bytes_that_are_no_answer_are_an_error_and_nothing_is_kept_of_them() {
    let nested = [0x30, 0x84, 0x00, 0x0f, 0xff, 0xff].repeat(20_000);
    for bytes in [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        // Longer than anything that is read, and as deep as it is long.
        vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        nested.get(..100_000).unwrap_or_default().to_vec(),
        // Success, but of another question.
        b"\x30\x0c\x02\x01\x09\x61\x07\x0a\x01\x00\x04\x00\x04\x00".to_vec(),
    ] {
        let directory = directory(server(bytes).await, 60 * SECOND);
        let outcome = ask(&directory, SECOND).await;
        assert!(
            matches!(outcome, Err(GroupsError::Directory(_) | GroupsError::TooSlow)),
            "{outcome:?}"
        );
        assert!(directory.0.kept("alice@A.TEST", Instant::now()).is_none());
    }
}

#[tokio::test]
async fn those_who_wait_for_a_turn_have_their_own_deadline() {
    let directory = directory(server(Vec::new()).await, SECOND);
    let all = (0..3 * MOST_AT_ONCE).map(|_| {
        let directory = directory.clone();
        tokio::spawn(async move { ask(&directory, Duration::from_millis(200)).await })
    });
    let began = Instant::now();
    for one in all.collect::<Vec<_>>() {
        assert_eq!(one.await.unwrap(), Err(GroupsError::TooSlow));
    }
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
}

#[test]
fn a_good_answer_is_kept_for_its_time_within_bounds() {
    let directory = directory(1, 60 * SECOND);
    let groups: GroupSet = ["clerks"].into_iter().collect();
    let now = Instant::now();
    let kept = |key: &str, at| directory.0.kept(key, at);
    directory.0.keep("alice".to_owned(), &groups, now);
    assert_eq!(kept("alice", now + 59 * SECOND), Some(groups.clone()));
    assert_eq!(kept("alice", now + 60 * SECOND), None);
    assert_eq!(kept("Alice", now), None);
    for number in 0..MOST_KEPT {
        directory.0.keep(number.to_string(), &groups, now);
    }
    assert_eq!(directory.0.kept.lock().unwrap().len(), MOST_KEPT);
    // What has ended makes room.
    directory.0.keep("bob".to_owned(), &groups, now + 61 * SECOND);
    assert_eq!(directory.0.kept.lock().unwrap().len(), 1);
}

#[test]
fn no_answer_is_kept_where_the_file_says_none() {
    let directory = directory(1, Duration::ZERO);
    let now = Instant::now();
    directory.0.keep("alice".to_owned(), &GroupSet::default(), now);
    assert_eq!(directory.0.kept("alice", now), None);
}

#[test]
fn times_of_a_directory_begin_in_1601() {
    assert_eq!(unix_seconds(116_444_736_000_000_000), 0);
    assert_eq!(unix_seconds(116_444_736_010_000_000), 1);
    assert_eq!(unix_seconds(1), 0);
}

#[test]
fn the_password_does_not_show_in_debug_output() {
    let shown = format!("{:?}", directory(389, SECOND));
    assert!(shown.contains("CN=reader") && !shown.contains("Correct"), "{shown}");
}

#[test]
fn an_account_that_only_compares_equal_is_somebody_else() {
    let named = |value: &'static str| is_named([b"x".as_slice(), value.as_bytes()].into_iter(), "alice@AD.TEST");
    for same in ["alice@AD.TEST", "alice@ad.test"] {
        assert!(named(same), "{same}");
    }
    for other in [
        "Alice@AD.TEST",
        "alice@AD.TEST.",
        "alice",
        "alice/admin@AD.TEST",
        "al\u{131}ce@AD.TEST",
        "",
    ] {
        assert!(!named(other), "{other}");
    }
    assert!(
        !is_named([].into_iter(), "alice@AD.TEST"),
        "an attribute that may not be read shows nobody"
    );
}

#[test]
fn a_distribution_list_gives_nothing() {
    // Global and universal groups, with and without the bit of security, as directories write them.
    for (group_type, counts) in [
        (Some("-2147483646"), true),
        (Some("-2147483640"), true),
        (Some("2"), false),
        (Some("8"), false),
        (Some("odd"), false),
        (None, true),
    ] {
        assert_eq!(is_for_security(group_type), counts, "{group_type:?}");
    }
}
