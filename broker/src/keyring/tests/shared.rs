//! Keys that several brokers have in one database.

use kerbridge_tests::postgres::Postgres;
use tokio::time::{advance, pause};

use super::*;
use crate::store::{PostgresConfig, PostgresHost};

fn config(server: &Postgres) -> PostgresConfig {
    PostgresConfig {
        hosts: vec![PostgresHost::Unix {
            folder: server.socket_folder(),
            port: server.port(),
        }],
        database: server.new_database().unwrap(),
        user: kerbridge_tests::postgres::ROLE.into(),
        password: None,
    }
}

fn start(config: &PostgresConfig, fill: &str) -> Result<KeyRing, KeyringError> {
    let place = KeyringPlace::Database(config.clone());
    KeyRing::start(place, &kek(fill), &Rotation::default(), at(1000))
}

fn administrator() -> By {
    By::Administrator { uid: None }
}

#[test]
fn what_one_broker_does_with_the_keys_the_others_have_and_of_two_at_once_one_is_refused() {
    let server = Postgres::start().unwrap();
    let config = config(&server);
    let (one, other) = (start(&config, "A").unwrap(), start(&config, "A").unwrap());
    assert_eq!(one.jwks(), other.jwks());
    assert_eq!(one.session(b"ticket"), other.session(b"ticket"));
    one.publish(at(1001), administrator()).unwrap();
    // Who has not heard of it yet decides on what is no longer so, and changes nothing.
    let late = other.publish(at(1001), administrator());
    assert!(
        matches!(late, Err(ChangeError::Failed(KeyringError::Meanwhile { .. }))),
        "{late:?}"
    );
    assert_ne!(one.jwks(), other.jwks());
    assert!(other.refresh(at(1002)).unwrap());
    assert_eq!(one.jwks(), other.jwks());
    assert!(!other.refresh(at(1002)).unwrap());
    let again = other.publish(at(1003), administrator());
    assert!(
        matches!(again, Err(ChangeError::Refused(RotateError::AlreadyPublished))),
        "{again:?}"
    );
    // A key that is taken out is out at both.
    let signing = other.signing().id().to_owned();
    other.retire(&signing, at(1004), administrator()).unwrap();
    assert!(one.refresh(at(1004)).unwrap());
    assert!(one.signing().id() != signing && one.jwks() == other.jwks());
    // Another key-encryption key opens nothing, and nothing is begun anew over what it does not open.
    assert!(matches!(start(&config, "E"), Err(KeyringError::AnotherKey { .. })));
    assert_eq!(start(&config, "A").unwrap().jwks(), one.jwks());
}

#[test]
fn a_key_that_is_to_sign_at_once_is_known_to_the_other_brokers_before_it_signs() {
    let server = Postgres::start().unwrap();
    let config = config(&server);
    let (one, other) = (start(&config, "A").unwrap(), start(&config, "A").unwrap());
    let switching = {
        let one = one.clone();
        std::thread::spawn(move || one.switch_now(at(1001), at(2000), administrator()).unwrap())
    };
    // It is published, and does not sign yet.
    while !other.refresh(at(1001)).unwrap() {}
    assert!(!switching.is_finished());
    let next = other.list().into_iter().find(|key| key.stage == Stage::Next).unwrap();
    assert_ne!(one.signing().id(), next.id);
    assert_eq!(switching.join().unwrap(), next.id);
    assert!(other.refresh(at(1004)).unwrap());
    assert_eq!(other.signing().id(), next.id);
}

#[tokio::test]
async fn keys_that_could_not_be_compared_for_half_a_minute_are_not_current() {
    let mut server = Postgres::start().unwrap();
    let ring = start(&config(&server), "A").unwrap();
    assert!(!ring.refresh(at(1001)).unwrap());
    server.process().kill().unwrap();
    assert!(ring.refresh(at(1002)).is_err() && ring.is_current());
    pause();
    advance(CURRENT_FOR + Duration::from_secs(1)).await;
    assert!(!ring.is_current());
    server.restart().unwrap();
    ring.refresh(at(1003)).unwrap();
    assert!(ring.is_current());
    // A file has one writer.
    let (_folder, alone) = fresh();
    advance(CURRENT_FOR * 100).await;
    assert!(alone.is_current());
}
