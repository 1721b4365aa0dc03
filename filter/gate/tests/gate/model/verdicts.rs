//! Whether a step of the gate says what the reference says.

use super::*;

pub(super) fn path(place: Place, shape: Shape, token: &Token) -> String {
    let path = match place {
        Place::Orders => "/orders/1",
        Place::Open => "/open",
        Place::Optional => "/optional",
        Place::Dry => "/dry/1",
        Place::Billing => "/billing",
        Place::Legacy => "/legacy/1",
        Place::Nowhere => "/nowhere",
    };
    match shape {
        Shape::Query => format!("{path}?access_token={}", token.text),
        Shape::Nothing
        | Shape::Header
        | Shape::Cookie
        | Shape::HeaderTwice
        | Shape::HeaderAndBadCookie
        | Shape::HeaderWithoutTls => path.to_owned(),
    }
}

/// The step must be what the reference says; the proof that the request passed, if it did.
pub(super) fn check(step: Step, place: Place, verdict: &Verdict) -> Result<Option<Admitted>, TestCaseError> {
    match (step, verdict) {
        (Step::Continue(edits, admitted), Ok(subject)) => {
            prop_assert_eq!(admitted.decision().reason, Reason::Ok);
            prop_assert_eq!(subjects(&edits), subject.clone());
            Ok(Some(admitted))
        }
        (Step::Continue(edits, admitted), Err(reason)) if place.is_dry() => {
            prop_assert!(admitted.decision().dry_run);
            prop_assert_eq!(admitted.decision().reason, *reason);
            prop_assert_eq!(subjects(&edits), None);
            Ok(None)
        }
        (Step::Respond(reply), Err(reason)) => {
            prop_assert_eq!(reply.decision.reason, *reason);
            prop_assert!(reply.status >= 400);
            Ok(None)
        }
        (step, verdict) => {
            prop_assert!(false, "{:?} where {:?} was expected", step, verdict);
            Ok(None)
        }
    }
}

/// Whether a step says what a verdict says.
pub(super) fn is(step: &Step, verdict: &Verdict) -> bool {
    match (step, verdict) {
        (Step::Continue(..), Ok(_)) => true,
        (Step::Respond(reply), Err(reason)) => reply.decision.reason == *reason,
        _ => false,
    }
}

/// The subject that the upstream reads: the last that is set, where what the client sent was taken away.
fn subjects(edits: &HeaderEdits) -> Option<String> {
    let mut read = Some("what the client sent".to_owned());
    for edit in edits {
        match edit {
            HeaderEdit::Remove(name) if **name == *"x-kerbridge-subject" => read = None,
            HeaderEdit::Set(name, value) if **name == *"x-kerbridge-subject" => {
                read = Some(String::from_utf8(value.expose().to_vec()).unwrap());
            }
            _ => {}
        }
    }
    read
}
