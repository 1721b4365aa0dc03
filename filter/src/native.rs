//! Lets the host's native crypto check signatures, where it proved that it can; pure Rust does the rest.

use kerbridge_gate::jwt::SignatureInput;
use kerbridge_gate::jwt::signature::known::KnownAnswers;
use kerbridge_wire::filter_config::Algorithm;

use crate::host;

/// The algorithms for which this host told a good signature from bad ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Native {
    trusted: Vec<Algorithm>,
}

impl Native {
    /// Tries the host with known answers, good and bad, for every algorithm that it may know. A host that has no such
    /// function, or says yes or no to everything, is asked nothing more.
    pub(crate) fn probe() -> Self {
        let answers_right = |algorithm: &Algorithm| {
            KnownAnswers::of(*algorithm).is_some_and(|known| {
                ask(&known.good) == Some(true) && known.bad.iter().all(|bad| ask(bad) == Some(false))
            })
        };
        Self {
            trusted: Algorithm::ALL.iter().copied().filter(answers_right).collect(),
        }
    }

    /// The names of the algorithms that are checked natively, as tokens write them.
    pub(crate) fn names(&self) -> String {
        let names: Vec<&str> = self.trusted.iter().map(|algorithm| algorithm.name()).collect();
        names.join(",")
    }

    /// Whether a signature is good. A host that fails to answer decides nothing.
    pub(crate) fn verify(&self, input: &SignatureInput) -> bool {
        let answer = if self.trusted.contains(&input.algorithm()) {
            ask(input)
        } else {
            None
        };
        answer.unwrap_or_else(|| input.verify())
    }
}

/// The host's answer; `None` if it has none, or the algorithm is not for it.
fn ask(input: &SignatureInput) -> Option<bool> {
    host::verify_signature(&input.native()?).ok()
}
