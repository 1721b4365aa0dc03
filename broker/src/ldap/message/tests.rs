use proptest::prelude::*;

use super::said::{answer, attribute, result};
use super::*;

fn search_of(filter: Filter) -> Search {
    Search {
        base: "DC=a".to_owned(),
        scope: Scope::Subtree,
        filter,
        attributes: vec!["cn".to_owned()],
        most: 1,
    }
}

fn entry_answer(attributes: &[Vec<u8>]) -> Vec<u8> {
    let content = [
        element(OCTET_STRING, b"CN=alice,DC=a"),
        element(SEQUENCE, &attributes.concat()),
    ];
    answer(7, SEARCH_ENTRY, &content, &[])
}

/// As much of a request as a reader of the standard would see: the element at the end of a path of positions.
fn at(bytes: &[u8], path: &[usize]) -> (u8, Vec<u8>) {
    let (tag, content) = Der::new(bytes).any().unwrap().unwrap();
    path.iter().fold((tag, content.to_vec()), |(_, content), &position| {
        let mut der = Der::new(&content);
        for _ in 0..position {
            der.any().unwrap().unwrap();
        }
        let (tag, content) = der.any().unwrap().unwrap();
        (tag, content.to_vec())
    })
}

#[test]
fn a_value_is_a_value_and_never_a_part_of_the_filter() {
    let hostile = b"*)(objectClass=*\0";
    let bytes = search(
        7,
        &search_of(Filter::Equals("cn".to_owned(), hostile.to_vec())),
        2,
        500,
        b"",
    );
    let filter = [1, 6];
    assert_eq!(at(&bytes, &filter).0, 0xa3);
    assert_eq!(at(&bytes, &[1, 6, 0]), (OCTET_STRING, b"cn".to_vec()));
    assert_eq!(at(&bytes, &[1, 6, 1]), (OCTET_STRING, hostile.to_vec()));

    let chain = Filter::InChain("member".to_owned(), b"CN=a".to_vec());
    let bytes = search(7, &search_of(Filter::Any(vec![chain.clone(), chain])), 2, 500, b"");
    assert_eq!(at(&bytes, &filter).0, 0xa1);
    assert_eq!(at(&bytes, &[1, 6, 1, 0]), (0x81, b"1.2.840.113556.1.4.1941".to_vec()));
    assert_eq!(at(&bytes, &[1, 6, 1, 1]), (0x82, b"member".to_vec()));
    assert_eq!(at(&bytes, &[1, 6, 1, 2]), (0x83, b"CN=a".to_vec()));
}

#[test]
fn a_bind_says_name_and_password_and_a_search_asks_for_a_page() {
    let bytes = bind(1, "CN=reader", b"secret");
    assert_eq!(at(&bytes, &[1]).0, BIND);
    assert_eq!(at(&bytes, &[1, 1]), (OCTET_STRING, b"CN=reader".to_vec()));
    assert_eq!(at(&bytes, &[1, 2]), (0x80, b"secret".to_vec()));
    let bytes = search(
        7,
        &search_of(Filter::Equals("cn".to_owned(), Vec::new())),
        2,
        500,
        b"next",
    );
    assert_eq!(at(&bytes, &[2, 0, 0]), (OCTET_STRING, PAGED_RESULTS.to_vec()));
    let (_, value) = at(&bytes, &[2, 0, 2]);
    assert_eq!(at(&value, &[1]), (OCTET_STRING, b"next".to_vec()));
}

#[test]
fn an_entry_is_read_with_all_values_of_its_attributes() {
    let bytes = entry_answer(&[
        attribute("sAMAccountName", &[b"alice"]),
        attribute("tokenGroups", &[b"\x01\x00", b"\xff"]),
        attribute("tokengroups;range=0-1499", &[]),
    ]);
    let Ok(Answer::Entry(entry)) = read_answer(&bytes, 7) else {
        panic!("no entry")
    };
    assert_eq!(entry.name, "CN=alice,DC=a");
    assert_eq!(entry.text("samaccountname"), Some("alice"));
    assert_eq!(entry.text("TOKENGROUPS"), Some("\u{1}\0"));
    assert_eq!(entry.values("tokenGroups").count(), 2);
    assert!(entry.is_partial("tokenGroups") && !entry.is_partial("sAMAccountName"));
    assert_eq!(entry.values("cn").count(), 0);
}

#[test]
fn the_last_page_has_no_cookie_and_a_refusal_is_an_error() {
    let control = |oid: &[u8]| {
        let value = element(
            SEQUENCE,
            &[integer(INTEGER, 0), element(OCTET_STRING, b"next")].concat(),
        );
        element(
            SEQUENCE,
            &[element(OCTET_STRING, oid), element(OCTET_STRING, &value)].concat(),
        )
    };
    let done = |controls: &[u8]| read_answer(&answer(7, SEARCH_DONE, &result(0, ""), controls), 7);
    let cookie = |cookie: &[u8]| {
        Ok(Answer::Done {
            cookie: cookie.to_vec(),
        })
    };
    assert_eq!(done(&[]), cookie(b""));
    assert_eq!(done(&control(PAGED_RESULTS)), cookie(b"next"));
    assert_eq!(
        done(&[control(b"1.2.3"), control(PAGED_RESULTS)].concat()),
        cookie(b"next")
    );

    let refused = |tag, code| answer(7, tag, &result(code, "no\nway\0"), &[]);
    let error = |request, code| {
        Err(LdapError::Refused {
            request,
            code,
            diagnosis: "noway".to_owned(),
        })
    };
    assert_eq!(read_bind(&refused(BIND_RESPONSE, 49), 7), error("bind", 49));
    assert_eq!(read_start_tls(&refused(EXTENDED_RESPONSE, 2), 7), error("starttls", 2));
    // Size limit exceeded: some groups are not all groups.
    assert_eq!(read_answer(&refused(SEARCH_DONE, 4), 7).map(drop), error("search", 4));
}

#[test]
fn what_is_no_answer_to_the_question_is_refused() {
    let good = answer(7, BIND_RESPONSE, &result(0, ""), &[]);
    assert_eq!(read_bind(&good, 7), Ok(()));
    assert!(read_bind(&good, 8).is_err());
    assert!(read_bind(&answer(0, BIND_RESPONSE, &result(0, ""), &[]), 7).is_err());
    assert!(read_start_tls(&good, 7).is_err());
    assert!(read_answer(&good, 7).is_err());
    for end in 0..good.len() {
        assert!(read_bind(&good[..end], 7).is_err(), "{end}");
    }
    assert!(read_bind(&[&good[..], &[0]].concat(), 7).is_err());
    let many = vec![&b"v"[..]; MOST_VALUES];
    assert!(read_answer(&entry_answer(&[attribute("member", &many)]), 7).is_err());
}

#[test]
fn the_servers_word_that_it_ends_the_connection_is_no_answer_and_no_nonsense() {
    let ended = |bytes: &[u8]| matches!(read_answer(bytes, 7), Err(LdapError::Connection(_)));
    assert!(ended(&said::notice()));
    for other in [
        answer(0, EXTENDED_RESPONSE, &result(52, ""), &[]),
        answer(0, SEARCH_DONE, &result(52, ""), &[]),
        answer(7, EXTENDED_RESPONSE, &result(52, ""), &[]),
    ] {
        assert!(read_answer(&other, 7).is_err() && !ended(&other), "{other:?}");
    }
}

#[test]
fn a_reference_says_where_there_is_more() {
    let urls = ["ldap://b.test/DC=b", "ldap://c.test/DC=b"];
    let read = read_answer(&said::references(7, &urls), 7);
    assert_eq!(read, Ok(Answer::Reference("ldap://b.test/DC=b".to_owned())));
    assert!(read_answer(&said::references(7, &[]), 7).is_err(), "one of nothing");
}

#[test]
fn who_asks_over_a_socket_says_so_and_no_password() {
    let bytes = bind_external(1);
    assert_eq!(at(&bytes, &[1, 1]), (OCTET_STRING, Vec::new()));
    assert_eq!(at(&bytes, &[1, 2]).0, 0xa3);
    assert_eq!(at(&bytes, &[1, 2, 0]), (OCTET_STRING, b"EXTERNAL".to_vec()));
    assert_eq!(at(&bytes, &[1, 2, 1]), (OCTET_STRING, Vec::new()));
}

#[test]
fn numbers_have_as_few_octets_as_they_take() {
    for (value, octets) in [
        (0, &[0][..]),
        (1, &[1]),
        (0x7f, &[0x7f]),
        (0x80, &[0, 0x80]),
        (0x1234, &[0x12, 0x34]),
        (0x8000, &[0, 0x80, 0]),
        (u32::MAX, &[0, 0xff, 0xff, 0xff, 0xff]),
    ] {
        assert_eq!(at(&integer(INTEGER, value), &[]), (INTEGER, octets.to_vec()), "{value}");
        assert_eq!(unsigned(octets), Some(value));
    }
}

#[test]
fn all_of_several_conditions_are_asked_for() {
    let equals = |value: &str| Filter::Equals("cn".to_owned(), value.as_bytes().to_vec());
    let bytes = search(7, &search_of(Filter::All(vec![equals("a"), equals("b")])), 2, 500, b"");
    assert_eq!(at(&bytes, &[1, 6]).0, 0xa0);
    assert_eq!(at(&bytes, &[1, 6, 1, 1]), (OCTET_STRING, b"b".to_vec()));
}

proptest! {
    #[test]
    fn no_bytes_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut changed = entry_answer(&[attribute("cn", &[b"a", b"b"])]);
        for (at, to) in changes {
            let at = at.index(changed.len());
            changed[at] = to;
        }
        for bytes in [&bytes, &changed] {
            drop(read_answer(bytes, 7));
            drop(read_bind(bytes, 7));
            drop(read_start_tls(bytes, 7));
        }
    }
}
