//! Decides whether an accepted context is somebody we know: realm, life left, and what a token will say of them.

use std::fmt;

use kerbridge_gss::Principal;
use kerbridge_wire::Reason;

use crate::acceptor::Accepted;
use crate::config::Config;
use crate::groups::GroupSet;
use crate::keyring::SessionId;
use crate::principal::mapping::{NameRules, NotMapped, Subject};
use crate::time::UnixTime;

/// Somebody whose ticket was accepted, in a realm of the list, with enough life left. Built by [`Identity::of`] only.
#[derive(Clone, Debug)]
pub struct Identity {
    principal: Principal,
    subject: Subject,
    auth_time: UnixTime,
    ticket_end: UnixTime,
    session: SessionId,
    channel_bound: bool,
    groups: GroupSet,
}

/// Whom we take.
#[derive(Clone, Debug)]
pub struct IdentityRules {
    /// Realms whose principals are taken.
    pub realms: Vec<String>,
    /// What tokens call them.
    pub names: NameRules,
    /// Least life that a ticket must have left, in seconds.
    pub ticket_floor: u64,
}

/// Why somebody is not taken although the ticket is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// The realm is not on the list.
    Realm,
    /// The rules have no name for the principal.
    Name(NotMapped),
    /// The ticket has ended; MIT accepts it for the clock skew longer.
    Ended,
    /// The ticket ends sooner than a token is worth minting.
    TooShort,
}

impl Stranger {
    /// The word of the closed list.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Realm => Reason::RealmNotAllowed,
            Self::Name(_) => Reason::PrincipalNotMapped,
            Self::Ended => Reason::TicketExpired,
            Self::TooShort => Reason::TicketTooShort,
        }
    }
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Realm => f.write_str("the realm is not on the list"),
            Self::Name(not_mapped) => not_mapped.fmt(f),
            Self::Ended => f.write_str("the ticket has ended"),
            Self::TooShort => f.write_str("the ticket ends too soon"),
        }
    }
}

impl IdentityRules {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            realms: config.kerberos().realms.clone(),
            names: config.names().clone(),
            ticket_floor: config.limits().ticket_floor.seconds().into(),
        }
    }

    /// What a token would call a client, or why it is not taken.
    pub fn judge(&self, accepted: &Accepted, now: UnixTime) -> Result<Subject, Stranger> {
        let principal = accepted.client();
        if !self.realms.iter().any(|realm| realm == principal.realm()) {
            return Err(Stranger::Realm);
        }
        let mapped = self
            .names
            .map(principal, accepted.local_name())
            .map_err(Stranger::Name)?;
        match now.until(accepted.ticket_end()) {
            0 => Err(Stranger::Ended),
            left if left < self.ticket_floor => Err(Stranger::TooShort),
            _ => Ok(mapped.subject),
        }
    }
}

impl Identity {
    /// Takes a client in, or says why not.
    pub fn of(accepted: &Accepted, session: SessionId, rules: &IdentityRules, now: UnixTime) -> Result<Self, Stranger> {
        rules.judge(accepted, now).map(|subject| Self {
            principal: accepted.client().clone(),
            subject,
            auth_time: accepted.auth_time(),
            ticket_end: accepted.ticket_end(),
            session,
            channel_bound: accepted.channel_bound(),
            groups: GroupSet::default(),
        })
    }

    /// The same, in these groups.
    #[must_use]
    pub fn in_groups(self, groups: GroupSet) -> Self {
        Self { groups, ..self }
    }

    /// What a token calls them, and nobody else.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Who it is. Grants are about this, whatever a token calls them.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// When they authenticated to their KDC.
    pub fn auth_time(&self) -> UnixTime {
        self.auth_time
    }

    /// When their ticket ends.
    pub fn ticket_end(&self) -> UnixTime {
        self.ticket_end
    }

    /// The session that their ticket is.
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// Whether the ticket was bound to the channel.
    pub fn channel_bound(&self) -> bool {
        self.channel_bound
    }

    /// The groups that they are in, as their one source says; none where there is no source.
    pub fn groups(&self) -> &GroupSet {
        &self.groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Identity {
        /// Somebody whose ticket began at 1000 and ends at 10,000.
        pub(crate) fn for_test(principal: &str) -> Self {
            Self::for_test_called(principal, &NameRules::default())
        }

        /// The same, called as these rules say.
        pub(crate) fn for_test_called(principal: &str, names: &NameRules) -> Self {
            let principal = crate::principal::canonical(principal).unwrap();
            let rules = IdentityRules {
                realms: vec![principal.realm().to_owned()],
                names: names.clone(),
                ticket_floor: 1,
            };
            Self::of(
                &Accepted::for_test(principal),
                SessionId::for_test(),
                &rules,
                UnixTime::from_seconds(1000),
            )
            .unwrap()
        }
    }

    fn at(principal: &str, now: u64) -> Result<Identity, Stranger> {
        let rules = IdentityRules {
            realms: vec!["A.TEST".into(), "B.TEST".into()],
            names: NameRules::default(),
            ticket_floor: 5,
        };
        let accepted = Accepted::for_test(Principal::parse(principal).unwrap());
        Identity::of(&accepted, SessionId::for_test(), &rules, UnixTime::from_seconds(now))
    }

    #[test]
    fn an_ended_ticket_is_refused_to_the_second() {
        assert!(at("alice@A.TEST", 9_995).is_ok());
        assert_eq!(at("alice@A.TEST", 9_996).unwrap_err(), Stranger::TooShort);
        assert_eq!(at("alice@A.TEST", 9_999).unwrap_err(), Stranger::TooShort);
        assert_eq!(at("alice@A.TEST", 10_000).unwrap_err(), Stranger::Ended);
        assert_eq!(at("alice@A.TEST", 10_299).unwrap_err(), Stranger::Ended);
    }

    #[test]
    fn only_realms_of_the_list_are_taken_letter_for_letter() {
        assert!(at("alice@B.TEST", 2000).is_ok());
        for name in ["alice@a.test", "alice@C.TEST", "alice@A.TEST.", "alice@AA.TEST"] {
            assert_eq!(at(name, 2000).unwrap_err(), Stranger::Realm, "{name}");
        }
    }
}
