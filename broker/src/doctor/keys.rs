//! Says whether the signing keys open, and whether they are replaced as configured.

use kerbridge_wire::Reason;

use super::finding::{Finding, Remedy};
use crate::config::KeysConfig;
use crate::keyring::{KeyRing, KeyState, KeyringPlace, Stage};
use crate::time::UnixTime;

const CHECK: &str = "keys";

/// Looks at the keys where they are kept; what is not there yet is made at the first start. Those that are published come with
/// what is said of them, where they open.
pub fn look(place: &KeyringPlace, keys: &KeysConfig, now: UnixTime) -> (Vec<Finding>, Option<String>) {
    let subject = place.to_string();
    let is_there = KeyRing::exists(place.clone());
    if matches!(is_there, Ok(false)) {
        let finding = Finding::skipped(
            CHECK,
            subject,
            "it is not there yet; the broker makes it when it starts",
        );
        return (vec![finding], None);
    }
    match is_there.and_then(|_| KeyRing::open(place.clone(), &keys.key_encryption_key, &keys.rotation, now)) {
        Ok(ring) => {
            let mut findings = vec![judge(&subject, keys, &ring.list(), now)];
            if ring.keks().len() > 1 {
                findings.push(
                    Finding::warning(CHECK, &subject, "more than one key-encryption key opens it")
                        .mended_by([Remedy::any("kerbridge keys rewrap --only".to_owned())]),
                );
            }
            (findings, Some(ring.jwks()))
        }
        Err(error) => {
            let finding = Finding::bad(CHECK, &subject, Reason::BrokerUnavailable, error.to_string())
                .mended_by([Remedy::any(error.remedy().to_owned())]);
            (vec![finding], None)
        }
    }
}

fn judge(subject: &str, config: &KeysConfig, keys: &[KeyState], now: UnixTime) -> Finding {
    let signing = keys.iter().find_map(|key| match key.stage {
        Stage::Signing { since } => Some((key, since)),
        Stage::Next | Stage::Old { .. } => None,
    });
    let Some((key, since)) = signing else {
        return Finding::bad(CHECK, subject, Reason::BrokerUnavailable, "no key signs");
    };
    let (age, count) = (since.until(now), keys.len());
    let found = format!("{} signs since {} days, {count} published", key.algorithm, age / DAY);
    let rotation = &config.rotation;
    let allowed = rotation.every.map(|every| {
        u64::from(every.seconds())
            .saturating_add(rotation.lead.seconds().into())
            .saturating_add(DAY)
    });
    let is_late = allowed.is_some_and(|allowed| age > allowed);
    // One that was published not long ago signs by and by, and until then no other one is made.
    let in_time = u64::from(rotation.lead.seconds()).saturating_add(DAY);
    let mut next = keys.iter().filter(|key| matches!(key.stage, Stage::Next));
    let is_changing = next.any(|key| key.published.until(now) <= in_time);
    if is_late || key.algorithm != rotation.algorithm && !is_changing {
        let found = format!("{found}; it should have been replaced by now: no broker runs, or it cannot write");
        return Finding::warning(CHECK, subject, found).mended_by([Remedy::any(
            "start the broker, and see kerbridge_signing_key_replacement_failing".to_owned(),
        )]);
    }
    Finding::good(CHECK, subject, found)
}

const DAY: u64 = 86_400;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::finding::Verdict;
    use super::*;
    use crate::keyring::{By, KeyEncryptionKey, Rotation, SigningAlgorithm};

    fn config(fill: &str) -> KeysConfig {
        KeysConfig {
            key_encryption_key: KeyEncryptionKey::from_base64(&fill.repeat(43)).unwrap(),
            key_encryption_file: PathBuf::new(),
            rotation: Rotation {
                every: kerbridge_wire::Span::from_seconds(30 * 86_400),
                ..Rotation::default()
            },
        }
    }

    #[test]
    fn another_algorithm_is_missed_only_where_no_key_is_on_its_way() {
        let config = |algorithm| KeysConfig {
            rotation: Rotation {
                algorithm,
                ..config("A").rotation
            },
            ..config("A")
        };
        let now = UnixTime::from_seconds(1_000_000);
        let (es256, ed25519) = (config(SigningAlgorithm::Es256), config(SigningAlgorithm::EdDsa));
        let folder = tempfile::tempdir().unwrap();
        let verdict = |now| look(&folder.path().into(), &ed25519, now).0[0].verdict;
        let start = |config: &KeysConfig| {
            KeyRing::start(folder.path(), &config.key_encryption_key, &config.rotation, now).unwrap()
        };
        drop(start(&es256));
        assert_eq!(verdict(now), Verdict::Warning);
        start(&ed25519).publish(now, By::Schedule).unwrap();
        assert_eq!(verdict(now), Verdict::Good);
        let lead = u64::from(ed25519.rotation.lead.seconds());
        assert_eq!(verdict(now.plus(lead + DAY)), Verdict::Good);
        assert_eq!(verdict(now.plus(lead + DAY + 1)), Verdict::Warning);
    }

    #[test]
    fn keys_that_do_not_open_or_were_not_replaced_are_told_with_what_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let now = UnixTime::from_seconds(1_000_000);
        let mut own = config("A");
        let look = |config: &KeysConfig, days: u64| look(&folder.path().into(), config, now.plus(days * DAY)).0;
        assert_eq!(look(&own, 0)[0].verdict, Verdict::Skipped);
        let ring = KeyRing::start(folder.path(), &own.key_encryption_key, &own.rotation, now).unwrap();
        for (days, verdict) in [(0, Verdict::Good), (31, Verdict::Good), (32, Verdict::Warning)] {
            assert_eq!(look(&own, days)[0].verdict, verdict, "{days}");
        }
        own.rotation.every = None;
        assert_eq!(look(&own, 400)[0].verdict, Verdict::Good);
        let wrong = look(&config("E"), 0);
        assert_eq!((wrong.len(), wrong[0].verdict), (1, Verdict::Bad));
        assert!(wrong[0].remedies[0].command.contains("backup"));
        ring.add_kek(&config("E").key_encryption_key, By::Schedule).unwrap();
        let both = look(&own, 0);
        assert_eq!((both.len(), both[1].verdict), (2, Verdict::Warning));
    }
}
