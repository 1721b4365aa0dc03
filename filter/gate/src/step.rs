//! Names what the filter is to do next. Effects are data: whoever holds a step has decided nothing any more.

use std::rc::Rc;

use kerbridge_wire::Reason;

use crate::exchange::{BrokerCall, PendingCall};
use crate::gate::{PendingKeys, PendingSignature};
use crate::jwt::SignatureInput;
use crate::refusal::LocalReply;
use crate::response::Admitted;
use crate::route::Route;
use crate::secret::Secret;

/// What happens to a request now. `Verify`, `Call` and `Wait` come with the state that their answer must be brought to, which
/// consumes it: a request cannot be resumed twice.
#[derive(Debug)]
#[cfg_attr(
    target_pointer_width = "64",
    expect(
        clippy::large_enum_variant,
        reason = "one step a request, moved twice; a box would cost an allocation"
    )
)]
pub enum Step {
    /// It goes upstream, with these edits.
    Continue(HeaderEdits, Admitted),
    /// It is answered here.
    Respond(LocalReply),
    /// A signature is to be checked, at once.
    Verify(SignatureInput, PendingSignature),
    /// The broker is to be asked; the request waits.
    Call(BrokerCall, PendingCall),
    /// An issuer's keys are being fetched; the request waits until they came, or its time is over.
    Wait(PendingKeys),
}

/// Edits of a header map, to be made in order.
pub type HeaderEdits = Vec<HeaderEdit>;

/// One edit of a header map. Values are secret: one of them may be a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderEdit {
    /// All values of this name go.
    Remove(Rc<str>),
    /// This value is the only one of its name.
    Set(Rc<str>, Secret),
    /// This value comes to those that are there.
    Add(Rc<str>, Secret),
}

/// What was decided, for log, metric and response-code details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The reason of the closed list.
    pub reason: Reason,
    /// What is wrong with a token that the broker handed over just now: a reason of the client's, were it the client's token.
    pub because: Option<Reason>,
    /// The route, where one was found.
    pub route: Option<Rc<Route>>,
    /// The configuration's name of the issuer, where a token named one that is known.
    pub issuer: Option<Rc<str>>,
    /// The route only logs and counts: the request went on whatever the reason is.
    pub dry_run: bool,
    /// It is about a logout, not about a request for a service.
    pub logout: bool,
}

impl Decision {
    /// Name of the route, `-` where none was found.
    pub fn route_name(&self) -> &str {
        self.route.as_ref().map_or("-", |route| route.name())
    }

    /// Name of the issuer, `-` where none was found.
    pub fn issuer_name(&self) -> &str {
        self.issuer.as_deref().unwrap_or("-")
    }

    /// The decision as the log has it: `reason=broker_unavailable route=orders issuer=kerbridge because=not_yet_valid`. All of
    /// it are words of ours or of the configuration.
    pub fn logged(&self) -> String {
        self.fields(" ")
    }

    /// The decision as the explain header has it: `reason=expired; route=orders; issuer=kerbridge`.
    pub(crate) fn explained(&self) -> String {
        let dry_run = if self.dry_run { "; dry_run" } else { "" };
        format!("{}{dry_run}", self.fields("; "))
    }

    fn fields(&self, between: &str) -> String {
        let (reason, route, issuer) = (self.reason, self.route_name(), self.issuer_name());
        let fields = format!("reason={reason}{between}route={route}{between}issuer={issuer}");
        match self.because {
            Some(because) => format!("{fields}{between}because={because}"),
            None => fields,
        }
    }
}
