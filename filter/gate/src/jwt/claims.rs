//! Checks claims, in one place, whichever way the signature was checked (RFC 7519 §4.1, RFC 9068 §4).

use std::rc::Rc;

use kerbridge_wire::Reason;

use crate::certificate::Confirmation;
use crate::config::is_scope;
use crate::config::issuer::Issuer;
use crate::json::Json;
use crate::pointer::Pointer;
use crate::time::UnixTime;

/// Most scopes or groups of a token that are kept; a token is 16 KiB at most.
const WORD_LIMIT: usize = 2048;

/// Claims of the right types that nobody has vouched for yet.
#[derive(Clone, Debug, PartialEq)]
pub struct UnverifiedClaims {
    claims: VerifiedClaims,
    not_before: Option<UnixTime>,
}

/// Claims of a token whose signature, issuer and times were checked. Only a verified signature makes them. Whether they are
/// for a route's audience, and open it, is asked of each request.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedClaims {
    /// Index of the issuer in the configuration.
    issuer: usize,
    subject: Rc<str>,
    audiences: Vec<Box<str>>,
    expires: UnixTime,
    issued: Option<UnixTime>,
    ends: UnixTime,
    scopes: Vec<Box<str>>,
    groups: Vec<Box<str>>,
    token_id: Option<Box<str>>,
    session: Option<Box<str>>,
    confirmation: Confirmation,
    /// The claims that conditions and headers of the configuration name, in its order.
    values: Vec<Option<Json>>,
}

/// `iss`, to choose the issuer and its keys by, and for nothing else.
///
/// # Errors
/// `missing_claim`
pub fn unverified_issuer(payload: &Json) -> Result<&str, Reason> {
    payload.member("iss").and_then(Json::as_str).ok_or(Reason::MissingClaim)
}

impl UnverifiedClaims {
    /// Reads the claims that a token of this issuer must have, and those that the configuration names by `pointers`.
    ///
    /// # Errors
    /// `missing_claim` where one is absent, of another type, no date, or holds control characters.
    pub fn read(payload: &Json, place: usize, issuer: &Issuer, pointers: &[Pointer]) -> Result<Self, Reason> {
        let text = |name: &str| match payload.member(name) {
            Some(value) => value
                .as_str()
                .filter(|text| is_name(text))
                .map(Some)
                .ok_or(Reason::MissingClaim),
            None => Ok(None),
        };
        let date = |name: &str| match payload.member(name) {
            Some(value) => numeric_date(value).map(Some).ok_or(Reason::MissingClaim),
            None => Ok(None),
        };
        let audiences = match payload.member("aud") {
            Some(Json::String(one)) => vec![one.as_str().into()],
            Some(Json::Array(several)) => texts(several).ok_or(Reason::MissingClaim)?,
            Some(Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_)) | None => {
                return Err(Reason::MissingClaim);
            }
        };
        let expires = date("exp")?.ok_or(Reason::MissingClaim)?;
        let issued = date("iat")?;
        let token_id = text("jti")?;
        if (issuer.needs_issued && issued.is_none()) || (issuer.is_broker && token_id.is_none()) {
            return Err(Reason::MissingClaim);
        }
        // An issuer that may not promise more is taken at that, whatever it wrote.
        let promised = match (issuer.max_lifetime, issued) {
            (Some(longest), Some(issued)) => expires.min(issued.plus(longest)),
            (Some(_), None) | (None, _) => expires,
        };
        Ok(Self {
            not_before: date("nbf")?,
            claims: VerifiedClaims {
                issuer: place,
                subject: text("sub")?.ok_or(Reason::MissingClaim)?.into(),
                audiences,
                expires,
                issued,
                ends: promised.plus(issuer.expiry_skew),
                scopes: words(issuer.scope_claim.find(payload)).ok_or(Reason::MissingClaim)?,
                groups: match issuer.groups_claim.find(payload) {
                    None => Vec::new(),
                    Some(Json::Array(groups)) => texts(groups).ok_or(Reason::MissingClaim)?,
                    Some(Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_)) => {
                        return Err(Reason::MissingClaim);
                    }
                },
                token_id: token_id.map(Into::into),
                session: text("sid")?.map(Into::into),
                confirmation: Confirmation::read(payload.member("cnf")),
                values: pointers.iter().map(|pointer| pointer.find(payload).cloned()).collect(),
            },
        })
    }

    /// The one claims check; called only behind a verified signature of this issuer's key. `exp` gets the issuer's leeway,
    /// none for the broker's; `iat` and `nbf` get its clock skew.
    ///
    /// # Errors
    /// `expired`, `not_yet_valid`.
    pub(crate) fn verify(self, now: UnixTime, issuer: &Issuer) -> Result<VerifiedClaims, Reason> {
        let Self { claims, not_before } = self;
        if now >= claims.ends {
            return Err(Reason::Expired);
        }
        let latest = now.plus(issuer.clock_skew);
        if claims.issued.is_some_and(|issued| issued > latest)
            || not_before.is_some_and(|not_before| not_before > latest)
        {
            return Err(Reason::NotYetValid);
        }
        Ok(claims)
    }
}

impl VerifiedClaims {
    /// Index of the issuer among those of the configuration.
    pub const fn issuer(&self) -> usize {
        self.issuer
    }

    /// `sub`: 1 to 1,024 bytes without control characters.
    pub const fn subject(&self) -> &Rc<str> {
        &self.subject
    }

    /// The values of `aud`.
    pub fn audiences(&self) -> &[Box<str>] {
        &self.audiences
    }

    /// The words of `scope`, in order.
    pub fn scopes(&self) -> &[Box<str>] {
        &self.scopes
    }

    /// The groups, in order.
    pub fn groups(&self) -> &[Box<str>] {
        &self.groups
    }

    /// `exp`
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }

    /// The second from which the token is no longer taken: `exp`, or what the issuer may promise, and its leeway.
    pub const fn ends(&self) -> UnixTime {
        self.ends
    }

    /// `iat`
    pub const fn issued(&self) -> Option<UnixTime> {
        self.issued
    }

    /// `jti`
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }

    /// `sid`
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// Who must show that the token is theirs.
    pub const fn confirmation(&self) -> Confirmation {
        self.confirmation
    }

    /// The claim at a place of the list by which the claims were read, if the token has it.
    pub fn value(&self, place: usize) -> Option<&Json> {
        self.values.get(place).and_then(Option::as_ref)
    }

    /// Bytes that it takes in memory, about.
    pub(crate) fn weight(&self) -> usize {
        // What is kept was in a token, once or twice over; each value is an allocation with its own cost.
        let texts = self
            .scopes
            .len()
            .saturating_add(self.groups.len())
            .saturating_add(self.audiences.len());
        let values = self
            .values
            .iter()
            .flatten()
            .fold(0_usize, |sum, value| sum.saturating_add(value.weight()));
        texts
            .saturating_add(self.values.len())
            .saturating_mul(48)
            .saturating_add(values)
            .saturating_add(512)
    }
}

/// A scope claim: a text of words (RFC 8693 §4.2), or a list of them as some issuers write it. Nothing but a space stands between
/// two words (RFC 6749 §3.3): at another white space a second reader would find other scopes.
fn words(claim: Option<&Json>) -> Option<Vec<Box<str>>> {
    let words: Vec<Box<str>> = match claim {
        None => Vec::new(),
        Some(Json::String(text)) => text
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(Into::into)
            .collect(),
        Some(Json::Array(items)) => texts(items)?,
        Some(Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_)) => return None,
    };
    (words.len() <= WORD_LIMIT && words.iter().all(|word| is_scope(word))).then_some(words)
}

/// A list of texts.
fn texts(items: &[Json]) -> Option<Vec<Box<str>>> {
    if items.len() > WORD_LIMIT {
        return None;
    }
    items
        .iter()
        .map(|item| item.as_str().filter(|text| is_name(text)).map(Into::into))
        .collect()
}

fn is_name(text: &str) -> bool {
    (1..=1024).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// `NumericDate` (RFC 7519 §2): whole or broken seconds, after 1970, before the year 10000.
fn numeric_date(value: &Json) -> Option<UnixTime> {
    match value {
        Json::Number(seconds) if (0.0..=253_402_300_799.0).contains(seconds) =>
        {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the range was checked; fractions are cut"
            )]
            UnixTime::from_seconds(*seconds as u64)
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::issuer::tests::issuer;

    const GOOD: &str = r#"{"iss":"i","sub":"alice@R","aud":"orders","exp":1000,"iat":900,"jti":"j","scope":"a b"}"#;

    fn read_for(issuer: &Issuer, text: &str) -> Result<UnverifiedClaims, Reason> {
        UnverifiedClaims::read(&Json::parse(text.as_bytes()).unwrap(), 0, issuer, &[])
    }

    fn read(text: &str) -> Result<UnverifiedClaims, Reason> {
        read_for(&issuer(r#""issuer":"i""#), text)
    }

    fn verify(text: &str, now: u64) -> Result<VerifiedClaims, Reason> {
        read(text)?.verify(at(now), &issuer(r#""issuer":"i""#))
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(seconds).unwrap()
    }

    #[test]
    fn good_claims_pass_until_the_second_of_exp() {
        let verified = verify(GOOD, 999).unwrap();
        assert_eq!(
            (
                &**verified.subject(),
                verified.scopes().len(),
                verified.expires(),
                verified.ends()
            ),
            ("alice@R", 2, at(1000), at(1000))
        );
        assert_eq!(verify(GOOD, 1000), Err(Reason::Expired));
    }

    #[test]
    fn issued_and_not_before_get_the_clock_skew_and_no_second_more() {
        assert!(verify(GOOD, 840).is_ok());
        assert_eq!(verify(GOOD, 839), Err(Reason::NotYetValid));
        let later = GOOD.replace("\"jti\"", "\"nbf\":950,\"jti\"");
        assert!(verify(&later, 890).is_ok());
        assert_eq!(verify(&later, 889), Err(Reason::NotYetValid));
    }

    #[test]
    fn a_required_claim_that_is_missing_or_of_another_type_is_refused() {
        for (from, to) in [
            ("\"sub\":\"alice@R\",", ""),
            ("\"aud\":\"orders\",", ""),
            ("\"exp\":1000,", ""),
            ("\"iat\":900,", ""),
            ("\"jti\":\"j\",", ""),
            ("1000", "1e300"),
            ("1000", "-1"),
            ("1000", "\"1000\""),
            ("1000", "null"),
            ("900", "[]"),
            ("alice@R", ""),
            ("alice@R", "a\\u0000b"),
            ("alice@R", "a\\nb"),
            ("\"orders\"", "[\"orders\",1]"),
            ("\"orders\"", "{}"),
            ("\"a b\"", "{}"),
            ("\"a b\"", "\"a \\u00e4\""),
            ("\"jti\":\"j\"", "\"jti\":\"j\",\"groups\":\"g\""),
            ("\"jti\":\"j\"", "\"jti\":\"j\",\"groups\":[1]"),
            ("\"jti\":\"j\"", "\"jti\":\"j\",\"sid\":1"),
        ] {
            assert_eq!(
                read(&GOOD.replace(from, to)),
                Err(Reason::MissingClaim),
                "{from} -> {to}"
            );
        }
    }

    #[test]
    fn an_issuer_that_promises_too_much_is_taken_at_its_longest_lifetime() {
        let bounded = issuer(r#""issuer":"i","max_lifetime":"50s""#);
        let claims = |now| read_for(&bounded, GOOD).unwrap().verify(at(now), &bounded);
        assert!(claims(949).is_ok());
        assert_eq!(claims(950), Err(Reason::Expired));
    }

    #[test]
    fn only_an_issuer_with_leeway_has_some_after_exp() {
        let lenient = issuer(r#""issuer":"i","expiry_skew_seconds":10"#);
        let claims = |now| read_for(&lenient, GOOD).unwrap().verify(at(now), &lenient);
        assert!(claims(1009).is_ok());
        assert_eq!(claims(1010), Err(Reason::Expired));
    }

    #[test]
    fn scopes_and_groups_come_from_the_claims_that_the_issuer_uses() {
        let other = issuer(r#""issuer":"i","scope_claim":"scp","groups_claim":"/realm/roles""#);
        let text = GOOD.replace("\"scope\":\"a b\"", r#""scp":["x","y"],"realm":{"roles":["r s"]}"#);
        let claims = read_for(&other, &text).unwrap().verify(at(950), &other).unwrap();
        assert_eq!(claims.scopes(), [Box::from("x"), Box::from("y")]);
        assert_eq!(claims.groups(), [Box::from("r s")]);
    }

    #[test]
    fn nothing_but_spaces_divides_scopes() {
        for (text, scopes) in [("a b", 2), (" a  b ", 2), ("", 0), (" ", 0)] {
            let claims = verify(&GOOD.replace("a b", text), 950).unwrap();
            assert_eq!(claims.scopes().len(), scopes, "{text:?}");
        }
        for odd in [
            r"a\tb",
            r"a\nb",
            r"a\rb",
            r"a\fb",
            "a\u{a0}b",
            r"a\u000bb",
            r#"a\"b"#,
            r"a\b",
        ] {
            assert_eq!(
                read(&GOOD.replace("a b", odd)).map(drop),
                Err(Reason::MissingClaim),
                "{odd}"
            );
        }
    }
}
