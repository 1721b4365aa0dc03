//! Says through whose hands a token came (`act`, RFC 8693 §4.1), and bounds how many that may be.

use kerbridge_gate::json::Json;
use kerbridge_wire::Reason;
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::config::is_client_name;

/// Who acted for the subject, the newest first. At most [`Actors::MOST`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actors(Vec<Actor>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Actor {
    subject: Box<str>,
    /// Who calls them that; we where absent.
    issuer: Option<Box<str>>,
}

impl Actors {
    /// Most that a token may have.
    pub const MOST: usize = 4;

    /// Reads an `act` claim. Of each actor `sub` and `iss` are kept; other claims say nothing about who it is.
    ///
    /// `issuer` is the token's where it is not ours, which is `ours`. Such an issuer speaks for actors of its own alone: under
    /// our name it would say that a client of ours had acted, and nobody here could tell that from one that did.
    pub(super) fn read(claim: Option<&Json>, issuer: Option<&str>, ours: &str) -> Result<Self, Reason> {
        let mut actors = Vec::new();
        let mut next = claim;
        while let Some(one) = next {
            if actors.len() >= Self::MOST {
                return Err(Reason::DeniedByPolicy);
            }
            let subject = one.member("sub").and_then(Json::as_str).filter(|name| is_name(name));
            let named = one.member("iss").map(|named| {
                let named = named.as_str().filter(|name| is_name(name));
                named.ok_or(Reason::MissingClaim)
            });
            let calls = match (named.transpose()?, issuer) {
                (None, issuer) => issuer,
                (Some(named), Some(issuer)) if named != issuer => return Err(Reason::DeniedByPolicy),
                (Some(named), None) if named == ours => None,
                (Some(named), _) => Some(named),
            };
            actors.push(Actor {
                subject: subject.ok_or(Reason::MissingClaim)?.into(),
                issuer: calls.map(Into::into),
            });
            next = one.member("act");
        }
        Ok(Self(actors))
    }

    /// The same, with a client of ours as the newest; `None` where there are as many as may be.
    #[must_use]
    pub fn and(&self, client: &str) -> Option<Self> {
        let newest = Actor {
            subject: client.into(),
            issuer: None,
        };
        let all = std::iter::once(newest).chain(self.0.iter().cloned());
        (self.0.len() < Self::MOST && is_client_name(client)).then(|| Self(all.collect()))
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody acts: the subject itself came.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// 1 to 255 bytes without control characters.
fn is_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.chars().any(char::is_control)
}

impl Serialize for Actors {
    /// Each around the one before it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Nested(&self.0).serialize(serializer)
    }
}

struct Nested<'a>(&'a [Actor]);

impl Serialize for Nested<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some((Actor { subject, issuer }, earlier)) = self.0.split_first() {
            map.serialize_entry("sub", subject)?;
            if let Some(issuer) = issuer {
                map.serialize_entry("iss", issuer)?;
            }
            if !earlier.is_empty() {
                map.serialize_entry("act", &Nested(earlier))?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str, issuer: Option<&str>) -> Result<Actors, Reason> {
        Actors::read(Json::parse(text.as_bytes()).as_ref(), issuer, "https://broker.test")
    }

    #[test]
    fn a_chain_is_read_and_written_the_newest_outside() {
        let chain = read(r#"{"sub":"b","act":{"sub":"a"}}"#, None).unwrap();
        let longer = chain.and("c").unwrap();
        assert_eq!((chain.count(), longer.count()), (2, 3));
        assert_eq!(
            serde_json::to_value(&longer).unwrap(),
            json!({ "sub": "c", "act": { "sub": "b", "act": { "sub": "a" } } })
        );
    }

    #[test]
    fn our_chains_may_hold_another_issuers_actors_and_call_our_clients_in_one_way() {
        let text = r#"{"sub":"b","iss":"https://broker.test","act":{"sub":"a","iss":"https://idp.test"}}"#;
        assert_eq!(
            serde_json::to_value(read(text, None).unwrap()).unwrap(),
            json!({ "sub": "b", "act": { "sub": "a", "iss": "https://idp.test" } })
        );
    }

    #[test]
    fn another_issuer_speaks_for_actors_of_its_own_and_for_nobody_elses() {
        let chain = read(
            r#"{"sub":"b","iss":"https://idp.test","act":{"sub":"a","exp":1}}"#,
            Some("https://idp.test"),
        );
        assert_eq!(
            serde_json::to_value(chain.unwrap()).unwrap(),
            json!({ "sub": "b", "iss": "https://idp.test", "act": { "sub": "a", "iss": "https://idp.test" } })
        );
        for other in ["https://broker.test", "https://c.test"] {
            for text in [
                format!(r#"{{"sub":"b","iss":"{other}"}}"#),
                format!(r#"{{"sub":"b","act":{{"sub":"a","iss":"{other}"}}}}"#),
            ] {
                assert_eq!(
                    read(&text, Some("https://idp.test")),
                    Err(Reason::DeniedByPolicy),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn a_chain_has_its_bound_and_every_actor_a_name() {
        assert_eq!(Actors::read(None, None, ""), Ok(Actors::default()));
        for text in [
            "1",
            "{}",
            r#"{"sub":1}"#,
            r#"{"sub":""}"#,
            r#"{"sub":"a\n"}"#,
            r#"{"sub":"a","iss":1}"#,
            r#"{"sub":"a","act":[]}"#,
        ] {
            assert_eq!(read(text, None), Err(Reason::MissingClaim), "{text}");
        }
        let nested = |depth: usize| {
            format!(
                "{}{}",
                r#"{"sub":"a","act":"#.repeat(depth),
                r#"{"sub":"a"}"#.to_owned() + &"}".repeat(depth)
            )
        };
        let full = read(&nested(Actors::MOST - 1), None).unwrap();
        assert_eq!(full.count(), Actors::MOST);
        assert_eq!(full.and("b"), None);
        assert_eq!(read(&nested(Actors::MOST), None), Err(Reason::DeniedByPolicy));
    }
}
