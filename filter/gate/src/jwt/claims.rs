//! Checks claims, in one place, whichever way the signature was checked (RFC 7519 §4.1, RFC 9068 §4).

use kerbridge_wire::Reason;

use crate::config::is_scope;
use crate::json::Json;
use crate::time::UnixTime;

/// Claims of the right types that nobody has vouched for yet. They choose the key set and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedClaims {
    issuer: String,
    subject: String,
    audience: Vec<String>,
    expires: UnixTime,
    issued: UnixTime,
    not_before: Option<UnixTime>,
    scopes: Vec<String>,
    token_id: String,
}

/// Claims of a token whose signature, times, issuer and audience were checked. Only a verified signature makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedClaims {
    subject: String,
    scopes: Vec<String>,
    expires: UnixTime,
    token_id: String,
}

impl UnverifiedClaims {
    /// Reads the claims that an access token must have; others are not looked at.
    ///
    /// # Errors
    /// `missing_claim` where one is absent, of another type, no date, or holds control characters.
    pub fn read(payload: &Json) -> Result<Self, Reason> {
        let text = |name: &str| {
            payload
                .member(name)
                .and_then(Json::as_str)
                .filter(|text| is_name(text))
                .map(str::to_owned)
        };
        let date = |name: &str| match payload.member(name) {
            Some(value) => numeric_date(value).map(Some).ok_or(Reason::MissingClaim),
            None => Ok(None),
        };
        let audience = match payload.member("aud") {
            Some(Json::String(one)) => vec![one.clone()],
            Some(Json::Array(several)) => several
                .iter()
                .map(|one| one.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .ok_or(Reason::MissingClaim)?,
            Some(Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_)) | None => {
                return Err(Reason::MissingClaim);
            }
        };
        let scopes = match payload.member("scope") {
            None => Vec::new(),
            Some(value) => {
                let words: Vec<String> = value
                    .as_str()
                    .ok_or(Reason::MissingClaim)?
                    .split_ascii_whitespace()
                    .map(str::to_owned)
                    .collect();
                if !words.iter().all(|word| is_scope(word)) {
                    return Err(Reason::MissingClaim);
                }
                words
            }
        };
        Ok(Self {
            issuer: text("iss").ok_or(Reason::MissingClaim)?,
            subject: text("sub").ok_or(Reason::MissingClaim)?,
            audience,
            expires: date("exp")?.ok_or(Reason::MissingClaim)?,
            issued: date("iat")?.ok_or(Reason::MissingClaim)?,
            not_before: date("nbf")?,
            scopes,
            token_id: text("jti").ok_or(Reason::MissingClaim)?,
        })
    }

    /// `iss`, to choose the key set by.
    pub fn unverified_issuer(&self) -> &str {
        &self.issuer
    }

    /// The one claims check; called only behind a verified signature of this issuer's key. `exp` gets no leeway, `iat`
    /// and `nbf` get `clock_skew` seconds. The audience must be exactly this one: a token for several is nobody's of ours.
    ///
    /// # Errors
    /// `expired`, `not_yet_valid`, `wrong_audience`.
    pub(crate) fn verify(self, now: UnixTime, clock_skew: u64, audience: &str) -> Result<VerifiedClaims, Reason> {
        let Self {
            issuer: _,
            subject,
            audience: shown,
            expires,
            issued,
            not_before,
            scopes,
            token_id,
        } = self;
        if now >= expires {
            return Err(Reason::Expired);
        }
        let latest = now.plus(clock_skew);
        if issued > latest || not_before.is_some_and(|not_before| not_before > latest) {
            return Err(Reason::NotYetValid);
        }
        match shown.as_slice() {
            [one] if one == audience => Ok(VerifiedClaims {
                subject,
                scopes,
                expires,
                token_id,
            }),
            _ => Err(Reason::WrongAudience),
        }
    }
}

impl VerifiedClaims {
    /// `sub`: 1 to 1,024 bytes without control characters.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The words of `scope`, in order.
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// `exp`
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }

    /// `jti`
    pub fn token_id(&self) -> &str {
        &self.token_id
    }
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

    const GOOD: &str = r#"{"iss":"i","sub":"alice@R","aud":"orders","exp":1000,"iat":900,"jti":"j","scope":"a b"}"#;

    fn read(text: &str) -> Result<UnverifiedClaims, Reason> {
        UnverifiedClaims::read(&Json::parse(text.as_bytes()).unwrap())
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(seconds).unwrap()
    }

    #[test]
    fn good_claims_pass_until_the_second_of_exp() {
        let claims = read(GOOD).unwrap();
        let verified = claims.clone().verify(at(999), 0, "orders").unwrap();
        assert_eq!(
            (verified.subject(), verified.scopes().len(), verified.expires()),
            ("alice@R", 2, at(1000))
        );
        assert_eq!(claims.clone().verify(at(1000), 60, "orders"), Err(Reason::Expired));
        assert_eq!(claims.verify(at(999), 60, "order"), Err(Reason::WrongAudience));
    }

    #[test]
    fn issued_and_not_before_get_the_clock_skew_and_no_second_more() {
        let claims = read(GOOD).unwrap();
        assert!(claims.clone().verify(at(840), 60, "orders").is_ok());
        assert_eq!(claims.verify(at(839), 60, "orders"), Err(Reason::NotYetValid));
        let later = read(&GOOD.replace("\"jti\"", "\"nbf\":950,\"jti\"")).unwrap();
        assert!(later.clone().verify(at(890), 60, "orders").is_ok());
        assert_eq!(later.verify(at(889), 60, "orders"), Err(Reason::NotYetValid));
    }

    #[test]
    fn a_required_claim_that_is_missing_or_of_another_type_is_refused() {
        for (from, to) in [
            ("\"iss\":\"i\",", ""),
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
            ("\"a b\"", "[\"a\"]"),
            ("\"a b\"", "\"a \\u00e4\""),
        ] {
            assert_eq!(
                read(&GOOD.replace(from, to)),
                Err(Reason::MissingClaim),
                "{from} -> {to}"
            );
        }
    }

    #[test]
    fn a_token_for_several_audiences_is_nobodys() {
        let one = read(&GOOD.replace("\"orders\"", "[\"orders\"]")).unwrap();
        assert!(one.verify(at(950), 0, "orders").is_ok());
        for several in ["[\"orders\",\"billing\"]", "[]"] {
            let claims = read(&GOOD.replace("\"orders\"", several)).unwrap();
            assert_eq!(
                claims.verify(at(950), 0, "orders"),
                Err(Reason::WrongAudience),
                "{several}"
            );
        }
    }
}
