use proptest::prelude::*;

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

fn answer(number: u32, tag: u8, content: &[Vec<u8>], controls: &[u8]) -> Vec<u8> {
    message(number, &element(tag, &content.concat()), controls)
}

/// `resultCode`, `matchedDN`, `diagnosticMessage`.
fn result(code: u32, diagnosis: &str) -> [Vec<u8>; 3] {
    [
        integer(ENUMERATED, code),
        element(OCTET_STRING, b""),
        element(OCTET_STRING, diagnosis.as_bytes()),
    ]
}

fn attribute(name: &str, values: &[&[u8]]) -> Vec<u8> {
    let values: Vec<u8> = values.iter().flat_map(|value| element(OCTET_STRING, value)).collect();
    element(
        SEQUENCE,
        &[element(OCTET_STRING, name.as_bytes()), element(SET, &values)].concat(),
    )
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
    // The server's word that it ends the connection has number 0.
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
