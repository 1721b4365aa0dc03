//! Says what has to come of a request, and judges what came.

use kerbridge_wire::Reason;
use kerbridge_wire::reason::ChallengeRule;

use super::ask::Seen;

/// What has to come of a request.
#[derive(Clone, Copy, Debug)]
pub enum Expect<'a> {
    /// It passes, and the service is told this principal.
    PassesAs(&'a str),
    /// It passes.
    Passes,
    /// It is refused for this reason, and nothing reaches the service.
    Refused(Reason),
}

/// What had to come, what came, and whether the two agree.
pub(super) struct Verdict {
    pub(super) expected: String,
    pub(super) found: String,
    pub(super) held: bool,
}

impl Expect<'_> {
    /// Of the lab's own parts the reason itself is known; from outside, what a client is told of it.
    pub(super) fn judge(self, seen: &Seen, is_own: bool) -> Verdict {
        let status = seen.answer.status;
        let told = seen.told();
        match self {
            Self::Passes => Verdict {
                expected: "200".to_owned(),
                found: told,
                held: (200..400).contains(&status),
            },
            Self::PassesAs(principal) => {
                let (whom, how) = principal_told(seen, is_own);
                Verdict {
                    expected: format!("200, and {how} {principal}"),
                    found: format!("{told}, and {how} {}", whom.as_deref().unwrap_or("nobody")),
                    held: (200..400).contains(&status) && whom.as_deref() == Some(principal),
                }
            }
            Self::Refused(reason) => {
                let word = seen.reason.as_deref().unwrap_or_default();
                let (is_reason, wanted) = if is_own {
                    ((status, word) == (reason.status(), reason.as_str()), reason.as_str())
                } else {
                    (is_told_so(reason, status, word), word_outside(reason))
                };
                let arrived = seen.received.as_ref().map_or("", |_| ", and it reached the service");
                Verdict {
                    expected: format!("{} {wanted}, and nothing reaches the service", reason.status()),
                    found: format!("{told}{arrived}"),
                    held: is_reason && arrived.is_empty(),
                }
            }
        }
    }
}

/// Whom the service was told, or where that is not seen, whom the token names.
fn principal_told(seen: &Seen, is_own: bool) -> (Option<String>, &'static str) {
    if let Some(user) = seen.remote_user() {
        return (Some(user), "Apache sees");
    }
    if is_own || seen.received.is_some() {
        let told = seen.received("x-kerbridge-subject");
        return ((!told.is_empty()).then(|| told.join(", ")), "the service is told");
    }
    let token = seen.decoded();
    let subject = token.and_then(|token| token.claims.get("sub")?.as_str().map(str::to_owned));
    (subject, "the token names")
}

/// The coarse word that a client is told of a 401 (docs/reasons.md). Who answers 401 without it is not the filter.
const fn word_outside(reason: Reason) -> &'static str {
    match reason.challenge() {
        ChallengeRule::InvalidToken => "invalid_token",
        ChallengeRule::None
        | ChallengeRule::Every
        | ChallengeRule::InsufficientScope
        | ChallengeRule::Others
        | ChallengeRule::Negotiate => "unauthenticated",
    }
}

/// Whether that is how a client is told of this reason.
fn is_told_so(reason: Reason, status: u16, word: &str) -> bool {
    // Where the route takes no other proof, a 401 would have no challenge.
    let has_no_other = reason.challenge() == ChallengeRule::Others && (status, word) == (403, "access_denied");
    has_no_other || (status == 401 && status == reason.status() && word == word_outside(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_outside_a_refusal_is_told_by_its_status_and_its_coarse_word() {
        for (reason, status, word) in [
            (Reason::WrongAudience, 401, "invalid_token"),
            (Reason::Expired, 401, "invalid_token"),
            (Reason::Replay, 401, "unauthenticated"),
            (Reason::NtlmToken, 401, "unauthenticated"),
            (Reason::NtlmToken, 403, "access_denied"),
        ] {
            assert!(is_told_so(reason, status, word), "{reason} {status} {word}");
        }
        for (reason, status, word) in [
            // Nothing was shown that the other path takes, which says nothing of audiences.
            (Reason::WrongAudience, 401, "unauthenticated"),
            // Somebody else answers.
            (Reason::NtlmToken, 401, ""),
            (Reason::Replay, 403, "access_denied"),
            (Reason::NtlmToken, 200, "unauthenticated"),
            (Reason::StoreUnavailable, 503, "temporarily_unavailable"),
        ] {
            assert!(!is_told_so(reason, status, word), "{reason} {status} {word}");
        }
    }
}
