//! Says whether filters can learn what was revoked: asks the running broker for its feed as one of them does, and reads it by
//! the gate's own rules.

use kerbridge_gate::jwk::KeySet;
use kerbridge_wire::Reason;
use kerbridge_wire::exchange::FEED_PATH;
use kerbridge_wire::feed::PageClaims;
use serde_json::Value;

use super::feed_page::{self, Terms};
use super::finding::{Finding, Remedy};
use crate::admin::client::{self, ClientError};
use crate::config::{Address, Config, ListenerName};
use crate::keyring::{KeyRing, SigningAlgorithm};
use crate::time::UnixTime;

const CHECK: &str = "revocations";
/// Seconds after which a broker that looks into its store twice a second has not done so for too long.
const OLD: u64 = 10;

/// Looks at the feed of this configuration's broker; nothing where it makes no tokens.
pub fn look(config: &Config, now: UnixTime) -> Vec<Finding> {
    let Some(own) = config.keys() else {
        return Vec::new();
    };
    // Both serve the same feed. Who runs this may open one of them and not the other.
    let sockets = [ListenerName::Admin, ListenerName::Mesh].map(|name| {
        config.listeners().find_map(|listener| match &listener.address {
            Address::Unix { path, .. } if listener.name == name => Some(path),
            Address::Unix { .. } | Address::Tls { .. } | Address::Clear { .. } => None,
        })
    });
    let Some(socket) = sockets.into_iter().flatten().next() else {
        return vec![Finding::skipped(
            CHECK,
            config.issuer(),
            "no listener is a Unix socket: add [listen.admin] to have the feed looked at",
        )];
    };
    let subject = socket.display().to_string();
    let page = match client::get(socket, FEED_PATH) {
        Ok(page) => page.to_vec(),
        Err(ClientError::Nobody) => return vec![Finding::skipped(CHECK, subject, "no broker listens there")],
        Err(ClientError::NotAllowed) => {
            return vec![Finding::skipped(
                CHECK,
                subject,
                "run this as root or the broker's user to look at the feed",
            )];
        }
        Err(error) => return vec![stale(&subject, format!("the feed is not served: {error}"))],
    };
    let keys = match KeyRing::open(config.keyring_place(), &own.key_encryption_key, &own.rotation, now) {
        Ok(keyring) => keyring.jwks(),
        Err(error) => return vec![Finding::skipped(CHECK, subject, error.problem().problem)],
    };
    let algorithms: Vec<_> = SigningAlgorithm::ALL.iter().map(|algorithm| algorithm.wire()).collect();
    let Ok(keys) = KeySet::parse(keys.as_bytes(), &algorithms) else {
        return vec![stale(&subject, "the broker's keys cannot be read".to_owned())];
    };
    vec![match feed_page::read(page, &keys) {
        Ok(claims) => judge(&subject, config.issuer(), &claims, now),
        Err(flaw) => stale(&subject, format!("nobody can go by the feed: {flaw}")),
    }]
}

fn judge(subject: &str, issuer: &str, claims: &PageClaims, now: UnixTime) -> Finding {
    let PageClaims { version, entries, .. } = claims;
    let terms = Terms {
        issuer,
        old: OLD,
        ahead: OLD,
    };
    match feed_page::judge(claims, terms, now) {
        Ok(age) => Finding::good(
            CHECK,
            subject,
            format!("the feed has {entries} revocations, at version {version}, {age} s old"),
        ),
        Err(flaw) => stale(subject, format!("nobody can go by the feed: {flaw}")),
    }
}

fn stale(subject: &str, problem: String) -> Finding {
    Finding::bad(CHECK, subject, Reason::FeedStale, problem).mended_by([Remedy::any(
        "look at the broker's log for the store, and at the clocks: timedatectl",
    )])
}

/// What filters are to know of a broker's revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feed {
    /// It makes no tokens, and has no feed.
    None,
    /// All of them.
    Followed,
    /// Nothing: the policy says `follow_revocations = false`.
    LeftOut,
}

/// Whether a filter with this configuration and the broker of this issuer are of one mind; nothing where the filter does not
/// know the issuer.
pub(super) fn compare(listener: &str, filter: &Value, issuer: &str, feed: Feed) -> Option<Finding> {
    let issuers = filter.get("issuers")?.as_array()?;
    let own = issuers
        .iter()
        .find(|one| one.get("issuer").and_then(Value::as_str) == Some(issuer))?;
    let is_read = own.get("feed").is_some_and(|feed| !feed.is_null());
    let render = || Remedy::any("kerbridge policy render --config kerbridge.toml, and replace the filter's entry");
    let found = format!("the filter has no feed of {issuer}: a token that was revoked passes until it ends");
    match (is_read, feed) {
        (false, Feed::LeftOut) => Some(Finding::warning(CHECK, listener, found).mended_by([Remedy::any(
            "follow_revocations = true under [filter] of the policy, and render again",
        )])),
        (false, Feed::Followed) => Some(Finding::gap(CHECK, listener, found).mended_by([render()])),
        (true, Feed::None) => Some(
            Finding::bad(
                CHECK,
                listener,
                Reason::FeedStale,
                format!("the filter reads a feed of {issuer}, and this broker makes no tokens and serves none"),
            )
            .mended_by([Remedy::any(
                "let filter.cluster of the policy be the broker that makes the tokens, and render again",
            )]),
        ),
        (true, Feed::Followed | Feed::LeftOut) => Some(Finding::good(
            CHECK,
            listener,
            format!("the filter reads the feed of {issuer}"),
        )),
        (false, Feed::None) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::feed_page::tests::claims;
    use super::super::finding::Verdict;
    use super::*;

    const ISSUER: &str = "https://broker.test";

    #[test]
    fn a_feed_is_judged_by_its_age_and_its_issuer() {
        let now = UnixTime::from_seconds(1000);
        for (iat, verdict) in [
            (1000, Verdict::Good),
            (1000 - OLD, Verdict::Good),
            (999 - OLD, Verdict::Bad),
            (1000 + OLD, Verdict::Good),
            (1001 + OLD, Verdict::Bad),
        ] {
            assert_eq!(judge("s", ISSUER, &claims(iat), now).verdict, verdict, "{iat}");
        }
        let other = judge("s", "https://other.test", &claims(1000), now);
        assert_eq!((other.verdict, other.reason), (Verdict::Bad, Some(Reason::FeedStale)));
    }

    #[test]
    fn a_filter_and_a_broker_that_are_not_of_one_mind_are_named() {
        let filter = |feed: Value| json!({"issuers": [{"issuer": ISSUER, "feed": feed}]});
        let read = filter(json!({"cluster": "b"}));
        let verdict = |filter: &Value, feed| {
            compare("https", filter, ISSUER, feed).map(|finding| (finding.verdict, finding.reason))
        };
        assert_eq!(verdict(&read, Feed::Followed), Some((Verdict::Good, None)));
        assert_eq!(
            verdict(&read, Feed::None),
            Some((Verdict::Bad, Some(Reason::FeedStale)))
        );
        assert_eq!(
            verdict(&filter(Value::Null), Feed::Followed),
            Some((Verdict::Bad, None))
        );
        assert_eq!(verdict(&filter(Value::Null), Feed::None), None);
        assert_eq!(
            verdict(&filter(Value::Null), Feed::LeftOut),
            Some((Verdict::Warning, None))
        );
        assert_eq!(verdict(&json!({"issuers": []}), Feed::Followed), None);
    }
}
