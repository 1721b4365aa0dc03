//! Chooses, where a ticket may be bound to one of several certificates, the one to accept it with.

use kerbridge_gss::{BindingsProbe, BindingsVerdict, ChannelBindings};
use kerbridge_wire::Reason;

use super::Rejection;
use crate::channel_bindings::Expected;

/// The binding to accept a token with; none where bindings are not looked at. The token is not used up: the library would
/// use it up at the first binding that does not fit, so that the right one could never be tried.
pub(super) fn choose<'a>(
    expected: &'a Expected,
    probe: Option<&BindingsProbe>,
    token: &[u8],
) -> Result<Option<&'a ChannelBindings>, Rejection> {
    let Some((first, others)) = expected.any_of.split_first() else {
        return if expected.required {
            Err(Rejection::new(
                Reason::ChannelBindingMissing,
                "no certificate is configured for this server name",
            ))
        } else {
            Ok(None)
        };
    };
    let Some(probe) = probe.filter(|_| !others.is_empty()) else {
        return Ok(Some(first));
    };
    for bindings in &expected.any_of {
        match probe.compare(token, bindings) {
            Ok(BindingsVerdict::Bound) => return Ok(Some(bindings)),
            Ok(BindingsVerdict::OtherChannel) => {}
            // Accepting it, with any of them, will say the same.
            Ok(BindingsVerdict::Unbound) | Err(_) => break,
        }
    }
    Ok(Some(first))
}

/// What is wrong with a ticket that was accepted unbound.
pub(super) fn unbound(expected: &Expected) -> Option<Rejection> {
    expected
        .required
        .then(|| Rejection::new(Reason::ChannelBindingMissing, "the client bound its ticket to no channel"))
}
