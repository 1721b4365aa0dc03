//! Decides what may be the broker's issuer, and whether the name of another one is its own, written otherwise.

use kerbridge_wire::exchange::TOKEN_PATH;

use crate::problem::Problems;

/// In bytes: the address of the token endpoint begins with it, and is an audience of clients' assertions, which has 255.
const LONGEST: usize = 255_usize.saturating_sub(TOKEN_PATH.len());

pub(super) fn check(issuer: Option<String>, problems: &mut Problems) -> Option<String> {
    const REMEDY: &str =
        "write an https URL without query, fragment and last slash, such as \"https://kerbridge.example.com\"";
    let Some(issuer) = issuer else {
        problems.missing("issuer", REMEDY);
        return None;
    };
    let rest = issuer.strip_prefix("https://").unwrap_or_default();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    let path_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'~');
    // Whose metadata and keys are at addresses that are made of it.
    let good = !authority.is_empty()
        && !issuer.ends_with('/')
        && !authority.starts_with(':')
        && issuer.len() <= LONGEST
        && authority.bytes().all(host_good)
        && path.bytes().all(path_good);
    if good {
        Some(issuer)
    } else {
        problems.note("issuer", format!("{issuer:?} is no issuer"), REMEDY);
        None
    }
}

/// Whether two issuers are one to whoever reads URLs: they differ in no more than the case of scheme and host, the port that https
/// has anyway, and slashes at the end.
pub(super) fn are_alike(one: &str, other: &str) -> bool {
    settled(one) == settled(other)
}

fn settled(issuer: &str) -> (String, String, &str) {
    let issuer = issuer.trim_end_matches('/');
    let (scheme, rest) = issuer.split_once("://").unwrap_or(("", issuer));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let mut authority = authority.to_ascii_lowercase();
    if let Some(host) = authority.strip_suffix(":443") {
        authority = host.to_owned();
    }
    (scheme.to_ascii_lowercase(), authority, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_that_is_written_otherwise_is_the_same_to_whoever_reads_urls() {
        let own = "https://broker.test/realm";
        for same in [
            own,
            "https://broker.test/realm/",
            "https://broker.test/realm//",
            "https://Broker.TEST/realm",
            "HTTPS://broker.test/realm",
            "https://broker.test:443/realm",
        ] {
            assert!(are_alike(own, same), "{same}");
        }
        for other in [
            "",
            "/",
            "broker.test/realm",
            "https://broker.test",
            "https://broker.test/Realm",
            "https://broker.test:8443/realm",
            "http://broker.test/realm",
            "https://broker.test.example/realm",
        ] {
            assert!(!are_alike(own, other), "{other}");
        }
    }

    #[test]
    fn the_address_of_the_token_endpoint_still_is_an_audience() {
        let of_length = |length: usize| {
            let issuer = format!("https://{}", "a".repeat(length.saturating_sub(8)));
            assert_eq!(issuer.len(), length);
            let mut problems = Problems::default();
            check(Some(issuer), &mut problems).is_some()
        };
        assert!(of_length(LONGEST));
        assert!(!of_length(LONGEST.saturating_add(1)));
        assert_eq!(LONGEST, 242);
    }
}
