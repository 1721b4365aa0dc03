//! Makes of a configuration what tokens and clients' assertions are verified by. `serve` runs on it, so that what it would refuse is a
//! mistake of the configuration and found with the others.

use kerbridge_wire::Span;

use super::{Config, KeySource};
use crate::problem::{Problem, Problems};
use crate::subject_token::{Issuers, KeyTerms};

impl Config {
    /// Whose tokens are taken where they are shown in place of tickets. `own_keys` are this broker's, where it has some.
    pub fn issuers(&self, own_keys: Option<String>) -> Result<Issuers, Problems> {
        self.issuers_by(own_keys, None)
    }

    fn issuers_by(&self, own_keys: Option<String>, own_terms: Option<KeyTerms>) -> Result<Issuers, Problems> {
        let terms =
            |sources: &[KeySource]| -> Vec<KeyTerms> { sources.iter().map(|source| source.terms.clone()).collect() };
        let mut keys = terms(self.key_sources());
        keys.extend(own_terms);
        let feeds = terms(self.feed_sources());
        let (issuer, file, policy) = (self.issuer(), self.policy_file(), self.policy());
        Issuers::new(issuer, file, policy, own_keys, &keys, &feeds).map_err(|errors| {
            let mut problems = Problems::default();
            for found in errors.0 {
                let problem = format!("{}: {}", found.field, found.problem);
                problems.note(
                    "policy_file",
                    problem,
                    "correct the policy: kerbridge policy render shows what it makes of it",
                );
            }
            problems
        })
    }

    /// The clients whose assertions are taken; nothing where none has keys.
    pub fn client_issuers(&self) -> Result<Option<Issuers>, Problem> {
        if self.clients().is_empty() {
            return Ok(None);
        }
        let issuers = Issuers::of_clients(self.issuer(), self.clients());
        issuers.map(Some).map_err(|errors| Problem {
            field: "client".into(),
            problem: errors.to_string(),
            remedy: "correct it".into(),
        })
    }

    /// All that either would refuse.
    pub(super) fn check_verifying(&self) -> Problems {
        // Its keys are made when it starts.
        let own = self.keys().map(|_| KeyTerms {
            issuer: self.issuer().to_owned(),
            poll: Span::FIVE_SECONDS,
            max_staleness: Span::FIVE_MINUTES,
        });
        let mut problems = Problems::default();
        problems.sift(self.issuers_by(None, own));
        problems.sift(self.client_issuers().map_err(Problems::from));
        problems
    }
}
