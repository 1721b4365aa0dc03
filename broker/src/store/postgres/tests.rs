//! The store in a real PostgreSQL.

mod counted;
mod losses;
mod restored;
mod several;

use std::sync::Arc;

use kerbridge_tests::postgres::Postgres as Server;

use super::*;
use crate::store::conformance;
use crate::store::{Consumed, Kind, ReplayTag, Revocation, Store as _, Target};
use crate::time::UnixTime;

const DEADLINE: Duration = Duration::from_secs(20);

fn histogram() -> Histogram {
    Histogram::new([0.001])
}

fn config(server: &Server, database: &str) -> PostgresConfig {
    PostgresConfig {
        hosts: vec![PostgresHost::Unix {
            folder: server.socket_folder(),
            port: server.port(),
        }],
        database: database.to_owned(),
        user: "kerbridge".into(),
        password: None,
    }
}

fn open(config: &PostgresConfig) -> KeptStore {
    counted(config, &DatabaseMetrics::default())
}

fn counted(config: &PostgresConfig, metrics: &DatabaseMetrics) -> KeptStore {
    KeptStore::in_database(config, 1024, DEADLINE, histogram(), metrics.clone()).unwrap()
}

fn tag(number: u64) -> ReplayTag {
    ReplayTag::of(&number.to_be_bytes())
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds)
}

/// A store of its own in each database.
fn fresh(server: &Server) -> PostgresConfig {
    config(server, &server.new_database().unwrap())
}

#[tokio::test]
async fn it_keeps_what_every_store_promises() {
    use conformance::revocations::*;
    let server = Server::start().unwrap();
    let fresh = || fresh(&server);
    conformance::a_tag_is_first_once(&open(&fresh())).await;
    conformance::of_many_at_once_one_is_first(Arc::new(open(&fresh()))).await;
    conformance::many_tags_at_once_are_all_first(Arc::new(open(&fresh()))).await;
    conformance::sweeping_forgets_what_has_ended_and_nothing_else(&open(&fresh())).await;
    let one = fresh();
    conformance::what_was_used_up_stays_so_after_a_restart(|| Arc::new(open(&one))).await;
    what_comes_after_a_version_is_read_in_order(&open(&fresh())).await;
    revocations_of_one_target_are_merged(&open(&fresh())).await;
    several_are_revoked_at_once_in_their_order(&open(&fresh())).await;
    what_is_lifted_is_gone_and_cannot_be_gone_on_with(&open(&fresh())).await;
    what_no_token_can_need_is_swept_and_nothing_else(&open(&fresh())).await;
    the_end_of_tokens_never_moves_back(&open(&fresh())).await;
    revocations_at_the_same_time_are_in_commit_order(Arc::new(open(&fresh()))).await;
    let one = fresh();
    revocations_stay_after_a_restart(|| Arc::new(open(&one)), &open(&fresh())).await;
}

async fn until_read(store: &KeptStore) -> crate::store::Changes {
    loop {
        if let Ok(changes) = store.revoked_since(0, 10).await {
            return changes;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn revocation(number: u64) -> Revocation {
    Revocation {
        target: Target::new(Kind::Token, &format!("token {number}")).unwrap(),
        issued_at_or_before: None,
        needed_until: Some(at(5000)),
    }
}

#[tokio::test]
async fn over_tcp_the_server_is_known_by_its_certificate_and_the_broker_by_its_password() {
    let server = Server::start().unwrap();
    let database = server.new_database().unwrap();
    let client = |authority: &std::path::Path| {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject as _;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    };
    let config = |name: &str, authority: &std::path::Path, password: &str| PostgresConfig {
        hosts: vec![PostgresHost::Tls {
            host: "127.0.0.1".into(),
            port: server.port(),
            name: ServerName::try_from(name.to_owned()).unwrap(),
            config: client(authority),
        }],
        database: database.clone(),
        user: kerbridge_tests::postgres::ROLE.into(),
        password: Some(Arc::new(Zeroizing::new(password.into()))),
    };
    let password = kerbridge_tests::postgres::PASSWORD;
    let store = open(&config("localhost", server.authority(), password));
    assert_eq!(store.consume_once(tag(1), at(1000)).await, Ok(Consumed::First));
    let bound = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name = 'kerbridge'";
    assert_eq!(server.sql(&database, bound).unwrap(), "1");
    let folder = tempfile::tempdir().unwrap();
    let other = kerbridge_tests::certificates::Certificates::create(folder.path()).unwrap();
    for (config, says) in [
        (config("db.lab.test", server.authority(), password), "certificate"),
        (config("localhost", &other.authority, password), "certificate"),
        (
            config("localhost", server.authority(), "wrong"),
            "password authentication failed",
        ),
    ] {
        let problem = KeptStore::in_database(&config, 1, DEADLINE, histogram(), DatabaseMetrics::default())
            .unwrap_err()
            .to_string();
        assert!(problem.contains(says) && !problem.contains(password), "{problem}");
    }
}

#[tokio::test]
async fn a_look_at_a_database_makes_nothing_there() {
    let mut server = Server::start().unwrap();
    let config = fresh(&server);
    for _ in 0..2 {
        assert!(!look_at_database(&config).unwrap().is_made);
    }
    drop(open(&config));
    let looked = look_at_database(&config).unwrap();
    assert!(looked.is_made && looked.clock.seconds() > 1_700_000_000, "{looked:?}");
    server
        .sql(
            &config.database,
            "ALTER ROLE kerbridge SET default_transaction_read_only = on",
        )
        .unwrap();
    let standby = look_at_database(&config).unwrap_err().problem;
    assert!(
        standby.contains("does not allow writes"),
        "a server that cannot be written is passed over: {standby}"
    );
    server.process().kill().unwrap();
    assert!(look_at_database(&config).is_err());
}
