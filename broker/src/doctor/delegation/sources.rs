//! Looks whether what issuers publish is where the configuration says: the keys that tokens are verified by, and the revocations,
//! under one of these keys.

use kerbridge_gate::feed::{PAGE_LIMIT, UnverifiedPage};
use kerbridge_gate::jwk::{KeySet, SET_LIMIT};
use kerbridge_wire::Reason;
use kerbridge_wire::feed_query::FeedQuery;
use kerbridge_wire::filter_config::Algorithm;

use crate::config::{Config, DelegationConfig, KeySource};
use crate::doctor::finding::{Finding, Remedy};
use crate::published_keys::{fetch, read};
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
        findings.push(match feed(source, set, now).await {
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
    let issuer = &source.terms.issuer;
    let mut others = config.policy_file().issuer.iter();
    // What a broker of ours signs with.
    let algorithms = others
        .find(|known| known.issuer == *issuer)
        .map_or(&[Algorithm::Es256][..], |known| &known.algorithms);
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

async fn feed(source: &KeySource, keys: &KeySet, now: UnixTime) -> Result<String, String> {
    let page = fetch(&source.place, |path| FeedQuery::Snapshot.target(path), PAGE_LIMIT).await;
    let page = page.map_err(|missed| missed.to_string())?;
    let page = UnverifiedPage::read(page, keys).map_err(|error| error.to_string())?;
    let is_good = page.signature().verify();
    let page = page.resume(is_good).map_err(|error| error.to_string())?;
    let claims = page.claims();
    if claims.iss != source.terms.issuer {
        return Err(format!("it is the feed of {:?}", claims.iss));
    }
    let age = UnixTime::from_seconds(claims.iat).until(now);
    let most = source.terms.max_staleness.seconds();
    if age > u64::from(most) {
        return Err(format!(
            "it says what was so {age} seconds ago, and max_staleness is {most}"
        ));
    }
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
