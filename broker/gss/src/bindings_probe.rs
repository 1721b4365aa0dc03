//! Says which channel a token is bound to, without using the token up and without accepting anybody.
//!
//! GSSAPI compares a token with one binding a call, and MIT stores the authenticator in the replay cache before it compares:
//! after `GSS_S_BAD_BINDINGS` the same token is a replay, so a second certificate could never be tried. A probe has no replay
//! cache. What it establishes is dropped before it returns; [`AcceptorCredential::accept`] alone lets somebody in, and it
//! must be called with the token after all.

use std::path::Path;

use crate::accept::{AcceptError, AcceptErrorKind, AcceptOutcome};
use crate::channel_bindings::ChannelBindings;
use crate::credential::{AcceptorCredential, AcquireError};
use crate::principal::ServicePrincipal;

/// Compares tokens with bindings.
#[derive(Debug)]
pub struct BindingsProbe(AcceptorCredential);

/// What a token and one binding have to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BindingsVerdict {
    /// The token is bound to this channel.
    Bound,
    /// The token is bound to no channel.
    Unbound,
    /// The token is bound to another channel.
    OtherChannel,
}

impl BindingsProbe {
    /// Acquires the keys of `service` from `keytab`.
    pub fn acquire(service: &ServicePrincipal, keytab: &Path) -> Result<Self, AcquireError> {
        AcceptorCredential::without_replay_cache(service, keytab).map(Self)
    }

    /// The principal whose keys these are.
    pub const fn service(&self) -> &ServicePrincipal {
        self.0.service()
    }

    /// Compares a token that holds its AP-REQ (a first token, or Kerberos's own) with a binding. An error says why the token
    /// cannot be read, as accepting it would; nothing is said about replay.
    pub fn compare(&self, token: &[u8], bindings: &ChannelBindings) -> Result<BindingsVerdict, AcceptError> {
        match self.0.accept(token, Some(bindings)) {
            Ok(AcceptOutcome::Established(context)) if context.flags().channel_bound() => Ok(BindingsVerdict::Bound),
            // A first leg without its AP-REQ is bound to nothing yet.
            Ok(AcceptOutcome::Established(_) | AcceptOutcome::ContinueNeeded { .. }) => Ok(BindingsVerdict::Unbound),
            Err(error) if error.kind() == AcceptErrorKind::BindingsMismatch => Ok(BindingsVerdict::OtherChannel),
            Err(error) => Err(error),
        }
    }
}
