//! What is fuzzed of the broker: plain functions that take bytes and panic where what must hold does not.
//!
//! `make test` drives them by proptest, with any Rust; `make fuzz` by libFuzzer. Each reads its bytes as a stranger could
//! send them, or as a KDC, a directory or an administrator could get them wrong: nothing panics, what is read lies within
//! what was given and reads the same again, and what is refused has a reason.

use std::cell::OnceCell;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbridge_broker::channel_bindings::bindings_of;
use kerbridge_broker::client_assertion::ClientClaim;
use kerbridge_broker::config::{Config, ListenerName, NamesConfig, Surroundings};
use kerbridge_broker::exchange::{ExchangeRequest, Hints};
use kerbridge_broker::groups::pac::LogonGroups;
use kerbridge_broker::groups::sid::Sid;
use kerbridge_broker::ldap::message::{Answer, read_answer, read_bind, read_start_tls};
use kerbridge_broker::negotiate::{FirstToken, NegotiateError, NegotiateToken};
use kerbridge_broker::policy::Policy;
use kerbridge_broker::problem::Problems;
use kerbridge_broker::{principal, strict_toml};
use kerbridge_gss::Keytab;
use kerbridge_wire::Reason;
use kerbridge_wire::policy::Policy as PolicyFile;

/// A target: its name, which is that of its folder of seeds too, and itself. It says whether the bytes came as far as they
/// can come, so that a seed that no longer does shows.
pub(crate) type Target = (&'static str, fn(&[u8]) -> bool);

/// Every target.
pub(crate) const ALL: [Target; 8] = [
    ("negotiate", negotiate),
    ("token_request", token_request),
    ("keytab", keytab),
    ("certificate", certificate),
    ("pac", pac),
    ("ldap", ldap),
    ("policy", policy),
    ("broker_config", broker_config),
];

/// A Negotiate token, as a first leg and as a second: SPNEGO, Kerberos, and the AP-REQ in them.
pub(crate) fn negotiate(data: &[u8]) -> bool {
    // What is no base64 at all.
    refused_by_name(FirstToken::parse(&String::from_utf8_lossy(data)).err());
    let text = STANDARD.encode(data);
    let first = FirstToken::parse(&text);
    let second = NegotiateToken::parse_second(&text);
    assert!(first.is_err() || second.is_err(), "no token is both legs");
    refused_by_name(second.as_ref().err().copied());
    match (first, second) {
        (Ok(FirstToken::Ticket(token)), _) => {
            holds(&token, data);
            let again = match FirstToken::parse(&STANDARD.encode(token.as_bytes())) {
                Ok(FirstToken::Ticket(again)) => again,
                other => panic!("it reads the same again: {other:?}"),
            };
            same(&token, &again);
            assert_eq!(again.as_bytes(), token.as_bytes(), "nothing is left to change");
            true
        }
        (_, Ok(token)) => {
            holds(&token, data);
            let again = NegotiateToken::parse_second(&STANDARD.encode(token.as_bytes()));
            same(&token, &again.expect("it reads the same again"));
            true
        }
        (Ok(FirstToken::Opening(opening)), _) => {
            assert_eq!(opening.as_bytes(), data, "it goes on as it came");
            true
        }
        (Err(error), _) => {
            refused_by_name(Some(error));
            false
        }
    }
}

/// A token holds what was given, but for the identifier of its mechanism.
fn holds(token: &NegotiateToken, data: &[u8]) {
    assert_eq!(token.as_bytes().len(), data.len());
    let changed: Vec<usize> = (0..data.len())
        .filter(|at| token.as_bytes().get(*at) != data.get(*at))
        .collect();
    assert!(changed.len() <= 1, "one byte tells the two identifiers apart");
    for part in [token.ticket(), token.authenticator(), token.as_beginning()] {
        assert!(!part.is_empty() && part.len() <= data.len());
    }
    let service = token.service().as_str();
    let again = principal::canonical(service).expect("a service is a principal");
    assert_eq!(again.as_str(), service, "a principal has one text");
    assert!(!service.chars().any(char::is_control));
}

fn same(token: &NegotiateToken, other: &NegotiateToken) {
    assert_eq!(token.ticket(), other.ticket());
    assert_eq!(token.authenticator(), other.authenticator());
    assert_eq!((token.service(), token.key()), (other.service(), other.key()));
}

fn refused_by_name(error: Option<NegotiateError>) {
    let Some(error) = error else { return };
    assert!(!error.to_string().is_empty());
    assert!(matches!(
        error.reason(),
        Reason::TokenTooLarge
            | Reason::MalformedCredentials
            | Reason::NtlmToken
            | Reason::MechUnsupported
            | Reason::ContinuationLost
    ));
}

/// The body of a token request.
pub(crate) fn token_request(data: &[u8]) -> bool {
    let (hints, _, on_mesh) = ExchangeRequest::read(data, ListenerName::Mesh);
    let Hints {
        source,
        server_name,
        request_id,
        route,
        certificate: _,
    } = &hints;
    for hint in [source, server_name, request_id, route].into_iter().flatten() {
        assert!((1..=255).contains(&hint.len()) && hint.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    let (nothing, claim, on_public) = ExchangeRequest::read(data, ListenerName::Public);
    assert_eq!(nothing, Hints::default(), "the mesh alone says who asks");
    assert!(
        on_mesh.is_ok() || on_public.is_err() || matches!(claim, ClientClaim::Assertion(_)),
        "nothing but what says which client it is is good on public alone"
    );
    for error in [on_mesh.as_ref().err(), on_public.as_ref().err()].into_iter().flatten() {
        assert!(!error.advice().is_empty());
        assert_ne!(error.reason(), Reason::Ok);
    }
    on_mesh.is_ok()
}

/// A keytab (format 0x0502).
pub(crate) fn keytab(data: &[u8]) -> bool {
    let keytab = match Keytab::parse(data) {
        Ok(keytab) => keytab,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    let entries = keytab.entries();
    // Each takes its length and fixed fields at least.
    assert!(!entries.is_empty() && entries.len() <= data.len() / 20);
    let mut written = vec![5, 2];
    for entry in entries {
        let text = entry.principal().as_str();
        assert!(keytab.principals().contains(entry.principal()));
        let canonical = principal::canonical(text).expect("a key is a principal's");
        assert_eq!(canonical.as_str(), text);
        let parts = principal::parts(entry.principal());
        let mut record = u16::try_from(parts.len())
            .expect("a count of 16 bits")
            .to_be_bytes()
            .to_vec();
        for part in std::iter::once(unescaped(entry.principal().realm())).chain(parts) {
            record.extend(u16::try_from(part.len()).expect("a length of 16 bits").to_be_bytes());
            record.extend(part.as_bytes());
        }
        record.extend([0; 9]);
        record.extend(i16::try_from(entry.enctype().number()).expect("16 bits").to_be_bytes());
        record.extend([0, 0]);
        record.extend(entry.kvno().to_be_bytes());
        written.extend(u32::try_from(record.len()).expect("a length of 32 bits").to_be_bytes());
        written.extend(record);
    }
    let again = Keytab::parse(&written).expect("what was read can be written");
    assert_eq!(again.entries(), entries);
    true
}

/// A realm as it stands in a file.
fn unescaped(text: &str) -> String {
    let mut characters = text.chars();
    let mut plain = String::new();
    while let Some(character) = characters.next() {
        plain.push(if character == '\\' {
            characters.next().unwrap_or('\\')
        } else {
            character
        });
    }
    plain
}

/// A certificate in DER, of which the hash function is wanted.
pub(crate) fn certificate(data: &[u8]) -> bool {
    match bindings_of(data) {
        Ok(bindings) => {
            assert_eq!(bindings_of(data), Ok(bindings.clone()));
            let longer = [data, &[0]].concat();
            assert!(bindings_of(&longer).is_err(), "nothing may hide behind a certificate");
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

/// The logon information of a PAC (NDR).
pub(crate) fn pac(data: &[u8]) -> bool {
    let Ok(LogonGroups { account, user, groups }) = LogonGroups::read(data) else {
        return false;
    };
    // Each has eight bytes of its own at least, and there are three kinds.
    assert!(groups.len() <= data.len() / 8 && groups.len() <= 3 * 4096);
    for sid in user.iter().chain(&groups) {
        assert_eq!(
            sid.to_string().parse::<Sid>().as_ref(),
            Ok(sid),
            "an identifier has one text"
        );
        assert_eq!(Sid::from_bytes(&sid.to_bytes()).as_ref(), Ok(sid));
    }
    // A unit of two bytes has three at most in UTF-8.
    assert!(account.len() <= data.len() / 2 * 3);
    let again = LogonGroups { account, user, groups };
    assert_eq!(LogonGroups::read(data), Ok(again));
    true
}

/// The number of the question in the seeds.
const NUMBER: u32 = 7;

/// An answer of a directory.
pub(crate) fn ldap(data: &[u8]) -> bool {
    let answer = read_answer(data, NUMBER);
    let (bind, tls) = (read_bind(data, NUMBER), read_start_tls(data, NUMBER));
    let good = [answer.is_ok(), bind.is_ok(), tls.is_ok()];
    assert!(
        good.iter().filter(|good| **good).count() <= 1,
        "a message answers one question"
    );
    for error in [answer.as_ref().err(), bind.as_ref().err(), tls.as_ref().err()]
        .into_iter()
        .flatten()
    {
        assert!(!error.to_string().is_empty());
    }
    assert!(
        read_answer(data, NUMBER + 1).is_err() || answer.is_err(),
        "an answer has its question's number"
    );
    match answer {
        Ok(Answer::Entry(entry)) => {
            assert!(entry.name.len() <= data.len());
            for name in ["memberOf", "objectSid", "tokenGroups", "cn"] {
                let held: usize = entry.values(name).map(<[u8]>::len).sum();
                assert!(held <= data.len());
                assert!(
                    entry
                        .text(name)
                        .is_none_or(|text| entry.values(name).next() == Some(text.as_bytes()))
                );
                entry.is_partial(name);
            }
        }
        Ok(Answer::Reference(url)) => assert!(url.len() <= 3 * data.len()),
        Ok(Answer::Done { cookie }) => assert!(cookie.len() <= data.len()),
        Err(_) => {}
    }
    good.contains(&true)
}

fn are_named(problems: &Problems) {
    for problem in problems.iter() {
        assert!(!problem.problem.is_empty(), "{problem:?}");
        assert!(!problem.remedy.is_empty(), "{problem:?}");
    }
}

/// A policy file.
pub(crate) fn policy(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let mut problems = Problems::default();
    let Some(file) = strict_toml::read::<PolicyFile>(&text, &mut problems) else {
        assert!(!problems.is_empty(), "what is not read has a reason");
        are_named(&problems);
        return false;
    };
    let written = serde_json::to_value(&file).expect("what was read can be written");
    let again: PolicyFile = serde_json::from_value(written).expect("what was written can be read");
    assert_eq!(again, file);
    let before = problems.iter().count();
    let built = Policy::build(&file, &mut problems);
    are_named(&problems);
    assert!(
        built.is_some() || problems.iter().count() > before,
        "what is not built has a reason"
    );
    built.is_some()
}

thread_local! {
    /// Where a configuration stands while it is read.
    static FOLDER: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
}

/// `kerbridge.toml`, in a folder with nothing else.
pub(crate) fn broker_config(data: &[u8]) -> bool {
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| tempfile::tempdir().expect("a folder"));
        let path = folder.path().join("kerbridge.toml");
        std::fs::write(&path, data).expect("a file");
        match Config::load(&path, &Surroundings::default()) {
            Ok(_) => panic!("there is no keytab and no policy"),
            Err(problems) => {
                assert!(!problems.is_empty());
                are_named(&problems);
            }
        }
        match NamesConfig::load(&path) {
            Ok(names) => {
                assert!(!names.realms().is_empty(), "somebody is taken");
                true
            }
            Err(problems) => {
                assert!(!problems.is_empty());
                are_named(&problems);
                false
            }
        }
    })
}
