//! Chooses, where a ticket may be bound to one of several certificates, the one to accept it with.

use std::sync::Arc;

use kerbridge_gss::{AcquireError, BindingsProbe, BindingsVerdict, ChannelBindings, ContextFlags};
use kerbridge_wire::Reason;

use super::Rejection;
use crate::channel_bindings::{BindingMode, Channel, ChannelBindingRules};
use crate::config::AcceptorConfig;
use crate::negotiate::NegotiateToken;

/// The rules, and what compares a ticket without using it up.
#[derive(Debug)]
pub(super) struct Bindings {
    rules: Arc<ChannelBindingRules>,
    /// One for each service, where bindings are looked at.
    probes: Vec<BindingsProbe>,
}

/// What to accept a ticket with.
#[derive(Debug)]
pub(super) struct Chosen {
    /// Absent where bindings are not looked at.
    pub(super) bindings: Option<ChannelBindings>,
    required: bool,
}

impl Bindings {
    pub(super) fn new(rules: &Arc<ChannelBindingRules>) -> Self {
        Self {
            rules: Arc::clone(rules),
            probes: Vec::new(),
        }
    }

    /// Acquires what compares the tickets of one more service.
    pub(super) fn add(&mut self, acceptor: &AcceptorConfig) -> Result<(), AcquireError> {
        match self.rules.mode() {
            BindingMode::Off => Ok(()),
            BindingMode::Allow | BindingMode::Require => {
                let AcceptorConfig { principal, keytab } = acceptor;
                self.probes.push(BindingsProbe::acquire(principal, keytab)?);
                Ok(())
            }
        }
    }

    /// The binding to accept a token with. The token is not used up: GSSAPI uses it up at the first binding that does not
    /// fit, so that the right one could not be tried after it.
    pub(super) fn choose(&self, token: &NegotiateToken, channel: &Channel) -> Result<Chosen, Rejection> {
        let expected = self.rules.expected(channel);
        let required = expected.required;
        let knows_none = expected.any_of.is_empty() && self.rules.mode() == BindingMode::Allow;
        if knows_none {
            // A relay chooses the server name that it asks for: a ticket that is bound to its own channel must not pass by a
            // name of which nothing is known.
            return Ok(Chosen {
                bindings: Some(ChannelBindings::of_no_channel()),
                required,
            });
        }
        let at = match expected.any_of.len() {
            0 if required => {
                let name = channel.server_name.as_deref().unwrap_or("none");
                return Err(Rejection::new(
                    Reason::ChannelBindingMissing,
                    format!("no certificate is configured for the server name that the client asked for: {name}"),
                ));
            }
            0 | 1 => 0,
            _ => self.fitting(token, &expected.any_of).unwrap_or(0),
        };
        Ok(Chosen {
            bindings: expected.any_of.into_iter().nth(at),
            required,
        })
    }

    /// Which one the token is bound to. Where there is none, or the token is no good, accepting it with any says so.
    fn fitting(&self, token: &NegotiateToken, any_of: &[ChannelBindings]) -> Option<usize> {
        let service = token.service();
        let probe = self
            .probes
            .iter()
            .find(|probe| probe.service().as_principal() == service)?;
        for (at, bindings) in any_of.iter().enumerate() {
            match probe.compare(token.as_beginning(), bindings) {
                Ok(BindingsVerdict::Bound) => return Some(at),
                Ok(BindingsVerdict::OtherChannel) => {}
                Ok(BindingsVerdict::Unbound) | Err(_) => return None,
            }
        }
        None
    }
}

impl Chosen {
    /// Whether an established context lacks what is required of it.
    pub(super) fn is_missed_by(&self, flags: ContextFlags) -> bool {
        self.required && !flags.channel_bound()
    }
}
