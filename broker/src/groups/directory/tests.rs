//! What a directory that is away, slow or hostile leads to. What real ones say is in the tests with OpenLDAP and Samba.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::ldap::scripted::{self, Asked, Scripted, Then, said};

fn directory(port: u16, keep: Duration) -> Directory {
    directory_with(port, keep, Elsewhere::Refuse)
}

fn directory_with(port: u16, keep: Duration, elsewhere: Elsewhere) -> Directory {
    Directory::new(DirectoryConfig {
        server: scripted::server(port),
        base: "DC=a".to_owned(),
        find_by: FindBy::Sid,
        groups: GroupRules {
            base: "DC=a".to_owned(),
            class: "group".to_owned(),
            name_attribute: "cn".to_owned(),
            membership: Membership::Direct(Member::Dn("member".to_owned())),
            elsewhere,
        },
        check_account: false,
        keep,
    })
}

async fn ask(directory: &Directory, within: Duration) -> Result<GroupSet, GroupsError> {
    let account = Account::Principal {
        attribute: "uid",
        value: "alice@A.TEST".to_owned(),
    };
    let wanted = ["clerks", "staff"].map(Box::from).into();
    let deadline = Instant::now().checked_add(within).unwrap();
    directory
        .groups_of(&account, &wanted, UnixTime::from_seconds(2000), deadline)
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

const ALICE: &str = "uid=alice,DC=a";
const CLERKS: &str = "cn=clerks,DC=a";

fn alice(number: u32) -> Vec<u8> {
    let entry = said::entry(number, ALICE, &[("uid", "alice@A.TEST")]);
    [entry, said::done(number, 0)].concat()
}

fn clerks(number: u32) -> Vec<u8> {
    let entry = said::entry(number, CLERKS, &[("cn", "clerks")]);
    [entry, said::done(number, 0)].concat()
}

/// Alice, her group, and whether another one has its name: three requests behind the bind, again and again.
fn good(asked: Asked) -> Vec<u8> {
    match asked.request % 3 {
        1 => alice(asked.number),
        _ => clerks(asked.number),
    }
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
fn the_password_does_not_show_in_debug_output() {
    let shown = format!("{:?}", directory(389, SECOND));
    assert!(shown.contains("CN=reader") && !shown.contains("Correct"), "{shown}");
}

#[tokio::test]
async fn one_connection_serves_one_look_up_after_the_other() {
    let scripted = Scripted::after_the_bind(|asked| Then::Say(good(asked))).await;
    let directory = directory(scripted.port, Duration::ZERO);
    for _ in 0..5 {
        let groups = ask(&directory, 60 * SECOND).await.unwrap();
        assert_eq!(groups.iter().collect::<Vec<_>>(), ["clerks"]);
    }
    assert_eq!(scripted.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_breaks_is_replaced_once_and_a_new_one_that_breaks_is_an_error() {
    // Each ends with the first question of its second look-up, unanswered.
    let scripted = Scripted::after_the_bind(|asked| match asked.request {
        1..=3 => Then::Say(good(asked)),
        _ => Then::End(Vec::new()),
    })
    .await;
    let directory = directory(scripted.port, Duration::ZERO);
    for round in 1..5 {
        assert!(ask(&directory, 60 * SECOND).await.is_ok(), "{round}");
        assert_eq!(scripted.connections(), round);
    }
    let scripted = Scripted::after_the_bind(|_| Then::End(Vec::new())).await;
    let directory = self::directory(scripted.port, Duration::ZERO);
    let outcome = ask(&directory, 60 * SECOND).await;
    assert!(
        matches!(outcome, Err(GroupsError::Directory(LdapError::Connection(_)))),
        "{outcome:?}"
    );
    assert_eq!(scripted.connections(), 1, "nobody is asked again and again");
}

#[tokio::test]
async fn a_connection_on_which_something_went_wrong_is_not_used_again() {
    let scripted = Scripted::after_the_bind(|asked| Then::Say(said::done(asked.number, 1))).await;
    let directory = directory(scripted.port, Duration::ZERO);
    for round in 1..3 {
        assert!(ask(&directory, 60 * SECOND).await.is_err());
        assert_eq!(scripted.connections(), round);
    }
}

#[tokio::test]
async fn where_the_directory_points_elsewhere_nobody_knows_all_groups() {
    let pointing = |url: &'static str| {
        move |asked: Asked| {
            let more = said::references(asked.number, &[url]);
            Then::Say([more, good(asked)].concat())
        }
    };
    let scripted = Scripted::after_the_bind(pointing("ldap://b.test/DC=b,DC=a??sub")).await;
    let outcome = ask(&directory(scripted.port, Duration::ZERO), 60 * SECOND).await;
    assert_eq!(outcome, Err(GroupsError::Elsewhere(1)));
    // Unless that is nobody's business.
    let lax = directory_with(scripted.port, Duration::ZERO, Elsewhere::Ignore);
    assert!(ask(&lax, 60 * SECOND).await.unwrap().contains("clerks"));
    assert!(lax.0.has_left_out.load(Ordering::Relaxed));

    // The parts of a domain controller that hold neither accounts nor groups.
    let scripted = Scripted::after_the_bind(pointing("ldap://a.test/CN=Configuration,DC=a")).await;
    let groups = ask(&directory(scripted.port, Duration::ZERO), 60 * SECOND).await;
    assert!(groups.unwrap().contains("clerks"));
}

#[tokio::test]
async fn an_account_that_may_be_elsewhere_is_not_said_to_be_nobody() {
    let nobody = |url: Option<&'static str>| {
        move |asked: Asked| {
            let more = url.map(|url| said::references(asked.number, &[url]));
            Then::Say([more.unwrap_or_default(), said::done(asked.number, 0)].concat())
        }
    };
    let scripted = Scripted::after_the_bind(nobody(Some("ldap://b.test/DC=b"))).await;
    let outcome = ask(&directory(scripted.port, Duration::ZERO), 60 * SECOND).await;
    assert_eq!(outcome, Err(GroupsError::AccountElsewhere));
    let lax = directory_with(scripted.port, Duration::ZERO, Elsewhere::Ignore);
    assert_eq!(ask(&lax, 60 * SECOND).await, Err(GroupsError::NoAccount));
    let scripted = Scripted::after_the_bind(nobody(None)).await;
    let outcome = ask(&directory(scripted.port, Duration::ZERO), 60 * SECOND).await;
    assert_eq!(outcome, Err(GroupsError::NoAccount));
}

#[tokio::test]
async fn one_name_of_two_groups_is_nobodys() {
    type Groups = &'static [(&'static str, &'static [(&'static str, &'static str)])];
    // Alice's own groups, and what is found under their names.
    let cases: [(Groups, Groups, Option<&str>); 7] = [
        (&[(CLERKS, &[("cn", "clerks")])], &[(CLERKS, &[("cn", "clerks")])], None),
        // She is in two of one name.
        (
            &[
                (CLERKS, &[("cn", "clerks")]),
                ("cn=clerks,OU=b,DC=a", &[("cn", "clerks")]),
            ],
            &[],
            Some("clerks"),
        ),
        // She is in one of them.
        (
            &[("cn=clerks,OU=b,DC=a", &[("cn", "clerks")])],
            &[
                (CLERKS, &[("cn", "clerks")]),
                ("cn=clerks,OU=b,DC=a", &[("cn", "clerks")]),
            ],
            Some("clerks"),
        ),
        // The other one is written otherwise, and is the same to the directory.
        (
            &[(CLERKS, &[("cn", "clerks")])],
            &[(CLERKS, &[("cn", "clerks")]), ("cn=x,DC=a", &[("cn", "CLERKS")])],
            Some("clerks"),
        ),
        // One group, two names.
        (&[(CLERKS, &[("cn", "clerks"), ("cn", "staff")])], &[], Some("clerks")),
        // A group that is not asked for may be called what it likes.
        (
            &[("cn=a,DC=a", &[("cn", "others")]), ("cn=b,DC=a", &[("cn", "others")])],
            &[],
            None,
        ),
        // A distribution list has no say.
        (
            &[(CLERKS, &[("cn", "clerks"), ("groupType", "-2147483646")])],
            &[
                (CLERKS, &[("cn", "clerks"), ("groupType", "-2147483646")]),
                ("cn=list,DC=a", &[("cn", "clerks"), ("groupType", "2")]),
            ],
            None,
        ),
    ];
    for (own, named, ambiguous) in cases {
        let scripted = Scripted::after_the_bind(move |asked| {
            let say = |groups: Groups| {
                let entries = groups
                    .iter()
                    .map(|(name, attributes)| said::entry(asked.number, name, attributes));
                [entries.collect::<Vec<_>>().concat(), said::done(asked.number, 0)].concat()
            };
            Then::Say(match asked.request {
                1 => alice(asked.number),
                2 => say(own),
                _ => say(named),
            })
        })
        .await;
        let outcome = ask(&directory(scripted.port, Duration::ZERO), 60 * SECOND).await;
        match ambiguous {
            Some(name) => assert_eq!(outcome, Err(GroupsError::Ambiguous(name.into())), "{own:?}"),
            None => assert!(outcome.is_ok(), "{own:?}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn a_group_without_a_name_that_may_be_read_may_be_any() {
    let scripted = Scripted::after_the_bind(|asked| {
        let nameless = said::entry(asked.number, "cn=hidden,DC=a", &[]);
        Then::Say(match asked.request {
            2 => [nameless, clerks(asked.number)].concat(),
            _ => good(asked),
        })
    })
    .await;
    let outcome = ask(&directory(scripted.port, Duration::ZERO), 60 * SECOND).await;
    assert_eq!(outcome, Err(GroupsError::Elsewhere(1)));
}

#[tokio::test]
async fn where_no_group_is_asked_for_the_account_alone_is_looked_at() {
    let scripted = Scripted::after_the_bind(|asked| {
        assert_eq!(asked.request, 1);
        Then::Say(alice(asked.number))
    })
    .await;
    let directory = directory(scripted.port, Duration::ZERO);
    let account = Account::Principal {
        attribute: "uid",
        value: "alice@A.TEST".to_owned(),
    };
    let deadline = Instant::now().checked_add(SECOND).unwrap();
    let outcome = directory
        .groups_of(&account, &BTreeSet::new(), UnixTime::from_seconds(2000), deadline)
        .await;
    assert_eq!(outcome, Ok(GroupSet::default()));
}

#[tokio::test]
async fn each_outcome_is_counted() {
    let scripted = Scripted::after_the_bind(|asked| Then::Say(good(asked))).await;
    let mut registry = prometheus_client::registry::Registry::with_prefix("kerbridge");
    let counters = DirectoryCounters::registered(&mut registry);
    let directory = directory(scripted.port, 60 * SECOND).counted_by(counters);
    for _ in 0..3 {
        ask(&directory, SECOND).await.unwrap();
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "kerbridge_directory_look_ups_total{outcome=\"answered\"} 1",
        "kerbridge_directory_look_ups_total{outcome=\"kept\"} 2",
        "kerbridge_directory_look_ups_total{outcome=\"failed\"} 0",
        "kerbridge_directory_connections_total 1",
        "kerbridge_directory_groups_left_out_total 0",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}
