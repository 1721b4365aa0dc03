//! Decides whether an accepted context, or the subject of a verified token, is somebody we know: realm, life left, and what a
//! token will say of them.

use std::fmt;

use kerbridge_gss::{Enctype, Principal};
use kerbridge_wire::Reason;

use crate::acceptor::Accepted;
use crate::config::Config;
use crate::groups::{GroupSet, is_machine};
use crate::keyring::SessionId;
use crate::principal;
use crate::principal::mapping::{NameRules, NotMapped, Subject};
use crate::subject_token::{Author, KERBEROS, VerifiedToken};
use crate::time::UnixTime;

/// Somebody whose ticket was accepted or whose token was verified, in a realm of the list, with enough life left. Built by
/// [`Identity::of`] and [`Identity::of_token`] only.
#[derive(Clone, Debug)]
pub struct Identity {
    principal: Principal,
    subject: Subject,
    auth_time: Option<UnixTime>,
    methods: Vec<Box<str>>,
    ends: UnixTime,
    session: SessionId,
    channel_bound: bool,
    enctype: Option<Enctype>,
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
    /// The name is such as people have, and the account a machine's: a domain finds it without its `$`.
    Machine,
    /// The ticket has ended; MIT accepts it for the clock skew longer.
    Ended,
    /// The ticket ends sooner than a token is worth minting.
    TooShort,
}

/// Why the subject of a token is not taken although the token is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenStranger {
    /// They would not be with a ticket either.
    Stranger(Stranger),
    /// The token ends sooner than another is worth minting.
    Ends,
    /// A token of ours calls them by a name that the rules no longer give.
    Renamed,
}

impl TokenStranger {
    /// The word of the closed list.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Stranger(stranger) => stranger.reason(),
            Self::Ends => Reason::Expired,
            Self::Renamed => Reason::PrincipalNotMapped,
        }
    }
}

impl fmt::Display for TokenStranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stranger(stranger) => stranger.fmt(f),
            Self::Ends => f.write_str("the token ends too soon"),
            Self::Renamed => f.write_str("the token calls its subject by a name that [names] no longer gives"),
        }
    }
}

impl Stranger {
    /// The word of the closed list.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Realm => Reason::RealmNotAllowed,
            Self::Name(_) | Self::Machine => Reason::PrincipalNotMapped,
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
            Self::Machine => f.write_str("the account is a machine's, and the name is not"),
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
        let subject = self.name(accepted.client(), accepted.local_name())?;
        let is_persons = principal::components(accepted.client()) == 1 && !accepted.client().name().ends_with('$');
        if is_persons && is_machine(accepted.logon_info()) {
            return Err(Stranger::Machine);
        }
        match now.until(accepted.ticket_end()) {
            0 => Err(Stranger::Ended),
            left if left < self.ticket_floor => Err(Stranger::TooShort),
            _ => Ok(subject),
        }
    }

    /// What a token calls a principal of an accepted realm.
    fn name(&self, principal: &Principal, local_name: Option<&str>) -> Result<Subject, Stranger> {
        if !self.realms.iter().any(|realm| realm == principal.realm()) {
            return Err(Stranger::Realm);
        }
        let mapped = self.names.map(principal, local_name).map_err(Stranger::Name)?;
        Ok(mapped.subject)
    }
}

impl Identity {
    /// Takes a client in, whose ticket was encrypted by `enctype`, or says why not.
    pub fn of(
        accepted: &Accepted,
        enctype: Enctype,
        session: SessionId,
        rules: &IdentityRules,
        now: UnixTime,
    ) -> Result<Self, Stranger> {
        rules.judge(accepted, now).map(|subject| Self {
            principal: accepted.client().clone(),
            subject,
            auth_time: Some(accepted.auth_time()),
            methods: vec![KERBEROS.into()],
            ends: accepted.ticket_end(),
            session,
            channel_bound: accepted.channel_bound(),
            enctype: Some(enctype),
            groups: GroupSet::default(),
        })
    }

    /// Takes the subject of a verified token in, who is this principal, or says why not. What is not in the token is not in
    /// the identity; another issuer's groups are not ours.
    pub fn of_token(
        token: &VerifiedToken,
        principal: Principal,
        session: SessionId,
        rules: &IdentityRules,
        now: UnixTime,
    ) -> Result<Self, TokenStranger> {
        let local_name = rules.names.auth_to_local.then(|| kerbridge_gss::local_name(&principal));
        let subject = rules.name(&principal, local_name.flatten().as_deref());
        let subject = subject.map_err(TokenStranger::Stranger)?;
        let groups = match token.author() {
            Author::Ours { subject: said, .. } if **said != *subject.as_str() => return Err(TokenStranger::Renamed),
            Author::Ours { .. } => token.groups().iter().cloned().collect(),
            Author::Another { .. } => GroupSet::default(),
        };
        if now.until(token.expires()) < rules.ticket_floor {
            return Err(TokenStranger::Ends);
        }
        Ok(Self {
            principal,
            subject,
            auth_time: token.auth_time(),
            methods: token.methods().to_vec(),
            ends: token.expires(),
            session,
            channel_bound: token.is_channel_bound(),
            enctype: None,
            groups,
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

    /// When they authenticated, to their KDC or as another issuer says.
    pub fn auth_time(&self) -> Option<UnixTime> {
        self.auth_time
    }

    /// How they authenticated (`amr`, RFC 8176).
    pub fn methods(&self) -> &[Box<str>] {
        &self.methods
    }

    /// When their ticket ends, or the token that was shown in its place.
    pub fn ends(&self) -> UnixTime {
        self.ends
    }

    /// The session that their ticket is, or that of the token.
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// Whether the ticket was bound to the channel.
    pub fn channel_bound(&self) -> bool {
        self.channel_bound
    }

    /// What their ticket was encrypted by; a token does not say.
    pub fn enctype(&self) -> Option<Enctype> {
        self.enctype
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
                Enctype::from(18),
                SessionId::for_test(),
                &rules,
                UnixTime::from_seconds(1000),
            )
            .unwrap()
        }

        /// The same of another service ticket's session.
        pub(crate) fn in_session_for_test(self, session: SessionId) -> Self {
            Self { session, ..self }
        }

        /// The same by another ticket.
        pub(crate) fn by_ticket_for_test(self, channel_bound: bool, enctype: Enctype) -> Self {
            Self {
                channel_bound,
                enctype: Some(enctype),
                ..self
            }
        }
    }

    fn at(principal: &str, now: u64) -> Result<Identity, Stranger> {
        let rules = IdentityRules {
            realms: vec!["A.TEST".into(), "B.TEST".into()],
            names: NameRules::default(),
            ticket_floor: 5,
        };
        let accepted = Accepted::for_test(Principal::parse(principal).unwrap());
        let now = UnixTime::from_seconds(now);
        Identity::of(&accepted, Enctype::from(18), SessionId::for_test(), &rules, now)
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
