//! Looks whether what issuers publish is where the configuration says: the keys that tokens are verified by, and the revocations,
//! under one of these keys.

use kerbridge_gate::feed::PAGE_LIMIT;
use kerbridge_gate::jwk::{KeySet, SET_LIMIT};
use kerbridge_wire::Reason;
use kerbridge_wire::feed_query::FeedQuery;
use kerbridge_wire::filter_config::Algorithm;
use kerbridge_wire::policy::Policy as RawPolicy;

use crate::config::{Config, DelegationConfig, KeySource};
use crate::doctor::feed_page::{self, Terms};
use crate::doctor::finding::{Finding, Remedy};
use crate::outgoing::fetch;
use crate::published_keys::read;
use crate::time::UnixTime;

const KEYS: &str = "delegation_keys";
const FEED: &str = "delegation_feed";

/// Looks at each source once.
pub(super) fn look(delegation: &DelegationConfig, config: &Config, now: UnixTime) -> Vec<Finding> {
    let DelegationConfig { keys, feeds, .. } = delegation;
    if keys.is_empty() && feeds.is_empty() {
        return Vec::new();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(examine(delegation, config, now)),
        Err(error) => vec![Finding::bad(
            KEYS,
            "delegation.keys",
            Reason::Internal,
            error.to_string(),
        )],
    }
}

async fn examine(delegation: &DelegationConfig, config: &Config, now: UnixTime) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut known: Vec<(&str, KeySet)> = Vec::new();
    for source in &delegation.keys {
        let issuer = source.terms.issuer.as_str();
        match keys(source, config).await {
            Ok(set) => {
                let found = format!("the keys by which its tokens are verified are at {}", source.place);
                findings.push(Finding::good(KEYS, issuer, found));
                known.push((issuer, set));
            }
            Err(problem) => findings.push(
                Finding::bad(
                    KEYS,
                    issuer,
                    Reason::KeysUnavailable,
                    format!("{} has no keys of it: {problem}", source.place),
                )
                .mended_by([mend(source)]),
            ),
        }
    }
    for source in &delegation.feeds {
        let issuer = source.terms.issuer.as_str();
        let Some((_, set)) = known.iter().find(|(of, _)| *of == issuer) else {
            let found = "whether its revocations are there shows once its keys are";
            findings.push(Finding::skipped(FEED, issuer, found));
            continue;
        };
        findings.push(match feed(source, config, set, now).await {
            Ok(found) => Finding::good(FEED, issuer, found),
            Err(problem) => Finding::bad(
                FEED,
                issuer,
                Reason::FeedStale,
                format!("{} has no revocations of it: {problem}", source.place),
            )
            .mended_by([mend(source)]),
        });
    }
    findings
}

async fn keys(source: &KeySource, config: &Config) -> Result<KeySet, String> {
    let (algorithms, _) = rules_of(&source.terms.issuer, config.policy_file());
    let text = match source.place.file() {
        Some(path) => read(path),
        None => fetch(&source.place, str::to_owned, SET_LIMIT).await,
    };
    let text = text.map_err(|missed| missed.to_string())?;
    match KeySet::parse(&text, algorithms) {
        Ok(set) if !set.is_empty() => Ok(set),
        Ok(_) => Err("the set has none for its algorithms".to_owned()),
        Err(_) => Err("no JSON Web Key Set".to_owned()),
    }
}

/// By what the policy has the tokens of an issuer verified, and by how many seconds its clock may be ahead.
fn rules_of<'p>(issuer: &str, policy: &'p RawPolicy) -> (&'p [Algorithm], u64) {
    match policy.issuer.iter().find(|known| known.issuer == issuer) {
        Some(known) => (&known.algorithms, known.clock_skew_seconds.into()),
        // A broker of ours, as filters take it.
        None => (&policy.filter.algorithms, policy.filter.clock_skew_seconds.into()),
    }
}

async fn feed(source: &KeySource, config: &Config, keys: &KeySet, now: UnixTime) -> Result<String, String> {
    let page = fetch(&source.place, |path| FeedQuery::Snapshot.target(path), PAGE_LIMIT).await;
    let page = page.map_err(|missed| missed.to_string())?;
    let claims = feed_page::read(page, keys).map_err(|flaw| flaw.to_string())?;
    let issuer = source.terms.issuer.as_str();
    let (_, ahead) = rules_of(issuer, config.policy_file());
    let terms = Terms {
        issuer,
        old: source.terms.max_staleness.seconds().into(),
        ahead,
    };
    feed_page::judge(&claims, terms, now).map_err(|flaw| flaw.to_string())?;
    Ok(format!(
        "its revocations, {} of them, are at {}, signed by one of its keys",
        claims.entries, source.place
    ))
}

fn mend(source: &KeySource) -> Remedy {
    Remedy::any(match source.place.curl() {
        Some(curl) => format!("{curl} # as the broker's user; start what is to answer there, or correct the place"),
        None => format!("ls -l {} # as the broker's user", source.place),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Problems;

    #[test]
    fn an_issuer_is_judged_by_its_own_rules_and_a_broker_of_ours_by_those_of_the_filter() {
        let policy = r#"
            [filter]
            algorithms = ["RS256", "ES256"]
            clock_skew_seconds = 7
            [[issuer]]
            issuer = "https://idp.test"
            audiences = { orders = ["client-1"] }
            algorithms = ["ES384"]
            clock_skew_seconds = 9
            jwks = { cluster = "idp" }
            [[route]]
            path = "/"
            access = "open"
        "#;
        let policy: RawPolicy = crate::strict_toml::read(policy, &mut Problems::default()).unwrap();
        let ours = rules_of("https://broker.test", &policy);
        assert_eq!(ours, (&[Algorithm::Rs256, Algorithm::Es256][..], 7));
        assert_eq!(rules_of("https://idp.test", &policy), (&[Algorithm::Es384][..], 9));
    }
}
