//! Reads the claims of a verified token that matter only where it is traded or looked at.

use kerbridge_gate::json::Json;
use kerbridge_wire::Reason;

use super::actors::Actors;
use crate::time::UnixTime;

/// The method (`amr`, RFC 8176) of who showed a ticket.
pub const KERBEROS: &str = "kerberos";

/// What a token says beside who it is about and what for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Details {
    pub(super) client: Option<Box<str>>,
    pub(super) auth_time: Option<UnixTime>,
    pub(super) methods: Vec<Box<str>>,
    pub(super) is_channel_bound: bool,
    pub(super) actors: Actors,
    pub(super) may_act: MayAct,
}

/// Who may act with a token (`may_act`, RFC 8693 §4.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum MayAct {
    /// It does not say.
    #[default]
    Unsaid,
    /// This client of ours.
    Client(Box<str>),
    /// Nobody whom we know.
    Another,
}

/// The claims that are read. Each is known by its place here.
pub(super) const CLAIMS: [&str; 6] = ["client_id", "auth_time", "amr", "kerbridge_cb", "act", "may_act"];

impl Details {
    /// Reads what `claim` finds. `issuer` is the token's where it is not ours, `ours` is.
    pub(super) fn read<'j>(
        claim: impl Fn(&str) -> Option<&'j Json>,
        issuer: Option<&str>,
        ours: &str,
    ) -> Result<Self, Reason> {
        Ok(Self {
            client: claim("client_id").and_then(Json::as_str).map(Into::into),
            auth_time: match claim("auth_time") {
                Some(time) => Some(date(time).ok_or(Reason::MissingClaim)?),
                None => None,
            },
            methods: match claim("amr") {
                Some(Json::Array(methods)) => methods
                    .iter()
                    .filter_map(Json::as_str)
                    // That a ticket was shown is said by whoever saw it.
                    .filter(|method| issuer.is_none() || *method != KERBEROS)
                    .map(Into::into)
                    .collect(),
                Some(Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_)) | None => {
                    Vec::new()
                }
            },
            is_channel_bound: issuer.is_none() && claim("kerbridge_cb") == Some(&Json::Bool(true)),
            actors: Actors::read(claim("act"), issuer, ours)?,
            may_act: claim("may_act").map_or(MayAct::Unsaid, |named| MayAct::read(named, issuer, ours)),
        })
    }
}

impl MayAct {
    /// Whoever is named without an `iss` is known by that name to the token's own issuer; `issuer` is that where it is not ours.
    /// Each member says more closely who it is, so that one which we do not know is about somebody whom we do not know.
    fn read(claim: &Json, issuer: Option<&str>, ours: &str) -> Self {
        let Json::Object(members) = claim else {
            return Self::Another;
        };
        let (mut subject, mut client, mut is_by_us) = (None, None, issuer.is_none());
        for (name, value) in members {
            match (name.as_str(), value.as_str()) {
                ("sub", Some(text)) => subject = Some(text),
                ("client_id", Some(text)) => client = Some(text),
                ("iss", Some(text)) => is_by_us = text == ours,
                // They say nothing about who it is, and are not used (RFC 8693 §4.4).
                ("exp" | "nbf" | "aud", _) => {}
                (_, _) => return Self::Another,
            }
        }
        match subject {
            Some(subject) if is_by_us && client.is_none_or(|client| client == subject) => Self::Client(subject.into()),
            Some(_) | None => Self::Another,
        }
    }
}

/// Whole or broken seconds after 1970 (`NumericDate`, RFC 7519 §2).
fn date(value: &Json) -> Option<UnixTime> {
    let Json::Number(seconds) = value else { return None };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked; fractions are cut"
    )]
    (0.0..=253_402_300_799.0)
        .contains(seconds)
        .then(|| UnixTime::from_seconds(*seconds as u64))
}

#[cfg(test)]
mod tests {
    use kerbridge_gate::pointer::Pointer;

    use super::*;

    fn read(text: &str) -> Result<Details, Reason> {
        read_of(text, None)
    }

    fn read_of(text: &str, issuer: Option<&str>) -> Result<Details, Reason> {
        let json = Json::parse(text.as_bytes()).unwrap();
        Details::read(|name| json.member(name), issuer, "https://broker.test")
    }

    #[test]
    fn a_client_that_another_issuers_token_names_is_ours_only_where_it_says_so() {
        for (text, expected) in [
            (r#"{"may_act":{"sub":"billing"}}"#, MayAct::Another),
            (
                r#"{"may_act":{"sub":"billing","iss":"https://broker.test"}}"#,
                MayAct::Client("billing".into()),
            ),
            (
                r#"{"may_act":{"sub":"billing","iss":"https://idp.test"}}"#,
                MayAct::Another,
            ),
            ("{}", MayAct::Unsaid),
        ] {
            let details = read_of(text, Some("https://idp.test")).unwrap();
            assert_eq!(details.may_act, expected, "{text}");
        }
    }

    #[test]
    fn only_our_own_tokens_say_that_a_ticket_was_shown() {
        let text = r#"{"amr":["pwd","kerberos","otp"]}"#;
        let foreign = read_of(text, Some("https://idp.test")).unwrap();
        assert_eq!(foreign.methods, ["pwd", "otp"].map(Box::from));
        assert_eq!(read(text).unwrap().methods, ["pwd", "kerberos", "otp"].map(Box::from));
    }

    #[test]
    fn each_claim_can_be_asked_for() {
        for name in CLAIMS {
            assert!(Pointer::parse(name).is_some(), "{name}");
        }
    }

    #[test]
    fn who_may_act_is_one_client_of_ours_or_nobody() {
        for (text, expected) in [
            ("{}", MayAct::Unsaid),
            (r#"{"may_act":{"sub":"billing"}}"#, MayAct::Client("billing".into())),
            (
                r#"{"may_act":{"sub":"billing","iss":"https://broker.test"}}"#,
                MayAct::Client("billing".into()),
            ),
            (
                r#"{"may_act":{"sub":"billing","iss":"https://idp.test"}}"#,
                MayAct::Another,
            ),
            (r#"{"may_act":{"sub":"billing","iss":1}}"#, MayAct::Another),
            (r#"{"may_act":{"iss":"https://broker.test"}}"#, MayAct::Another),
            (r#"{"may_act":{"sub":["billing"]}}"#, MayAct::Another),
            (r#"{"may_act":null}"#, MayAct::Another),
            (
                r#"{"may_act":{"sub":"billing","client_id":"billing"}}"#,
                MayAct::Client("billing".into()),
            ),
            (r#"{"may_act":{"sub":"billing","client_id":"orders"}}"#, MayAct::Another),
            (r#"{"may_act":{"client_id":"billing"}}"#, MayAct::Another),
            (
                r#"{"may_act":{"sub":"billing","email":"b@billing.test"}}"#,
                MayAct::Another,
            ),
            (r#"{"may_act":{"sub":"billing","x":null}}"#, MayAct::Another),
            (
                r#"{"may_act":{"sub":"billing","exp":1,"nbf":9e9,"aud":["x"]}}"#,
                MayAct::Client("billing".into()),
            ),
        ] {
            assert_eq!(read(text).unwrap().may_act, expected, "{text}");
        }
    }

    #[test]
    fn what_is_said_of_the_log_in_is_read() {
        let details =
            read(r#"{"client_id":"mesh","auth_time":1000.5,"amr":["kerberos",1],"kerbridge_cb":true}"#).unwrap();
        assert_eq!(details.client.as_deref(), Some("mesh"));
        assert_eq!(details.auth_time, Some(UnixTime::from_seconds(1000)));
        assert_eq!(details.methods, [Box::from("kerberos")]);
        assert!(details.is_channel_bound);
        assert_eq!(read(r#"{"auth_time":"1000"}"#), Err(Reason::MissingClaim));
    }
}
