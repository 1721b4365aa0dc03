//! Says what a run of the lab is: which scenarios ran, what each step expected and saw, what each leg carried.
//!
//! Whoever makes one of these has masked it: nothing here may hold a whole credential, and nothing after here looks for one.

use serde::{Deserialize, Serialize};

/// One run of the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// What the run is called, in a line.
    pub title: String,
    /// When it began, in seconds since 1970.
    pub started: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// What it ran on.
    pub setup: Setup,
    /// What was tried, in the order in which it ran.
    pub scenarios: Vec<Scenario>,
    /// What concerns no scenario alone, a sentence each.
    pub notices: Vec<String>,
}

/// What a run ran on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// Whose tickets were shown.
    pub kdc: Kdc,
    /// How many brokers stood behind Envoy; of somebody's own, those that are known.
    pub brokers: u32,
    /// Where the brokers keep what they must not forget.
    pub store: Store,
    /// Whether it is somebody's own set-up, in which nothing is changed.
    pub yours: bool,
    /// What was broken in it on purpose, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// Each program with its version.
    pub versions: Vec<(String, String)>,
}

/// Whose tickets were shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kdc {
    /// The lab's MIT KDC.
    Mit,
    /// The lab's Samba domain controller.
    Samba,
    /// Somebody's own.
    Yours,
}

/// Where the brokers keep what they must not forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// A file of the broker's.
    Redb,
    /// A database that brokers share.
    Postgres,
    /// Somebody's own, whichever it is.
    Yours,
}

/// One scenario as it ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name on the command line: lower case, words joined by hyphens.
    pub name: String,
    /// Its heading.
    pub title: String,
    /// What it proves, in one sentence.
    pub purpose: String,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub duration_ms: u64,
    /// Who held which credential, and when.
    pub holdings: Vec<Holding>,
    /// What was done, in order.
    pub steps: Vec<Step>,
}

/// What came of a scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// All its steps held.
    Passed,
    /// At least one step did not.
    Failed,
    /// It could not be tried here.
    NotSeen {
        /// What stood in the way, in one line.
        why: String,
        /// What would let it be seen, in one line.
        remedy: String,
    },
}

/// A credential in somebody's hands for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holding {
    /// Who held it.
    pub who: Holder,
    /// What it was.
    pub credential: Credential,
    /// What it is called in the picture, in a few words.
    pub label: String,
    /// From when, since the scenario began.
    pub from_ms: u64,
    /// Until when; to the end of the scenario and beyond where there is none.
    pub until_ms: Option<u64>,
    /// What is known of it, masked.
    pub note: String,
}

/// Who can hold a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    /// Who asks.
    Client,
    /// The filter in Envoy.
    Filter,
    /// The broker.
    Broker,
    /// The service behind Envoy.
    Upstream,
}

/// What can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// A client's ticket.
    Ticket,
    /// A token of the broker's.
    Token,
    /// A token in a cookie.
    Cookie,
    /// A ticket that the broker had the KDC make in a user's name.
    ServiceTicket,
    /// What a ticket is shown with, once (RFC 4120 §5.5.1).
    ApReq,
}

/// One thing that was done, what had to come of it, and what did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// When, since the scenario began.
    pub at_ms: u64,
    /// What was done.
    pub title: String,
    /// What had to come of it.
    pub expected: String,
    /// What did.
    pub seen: String,
    /// Whether the two agree.
    pub held: bool,
    /// Why they do not, in a sentence, where what was seen tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What to do where they do not.
    pub remedy: Option<String>,
    /// What was carried meanwhile, in order.
    pub legs: Vec<Record>,
}

/// One message on one leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Where it was seen.
    pub leg: Leg,
    /// When, since the scenario began.
    pub at_ms: u64,
    /// Which way it went, seen from Envoy or, on the KDC's leg, from whoever asked.
    pub direction: Direction,
    /// What it was, in a line.
    pub summary: String,
    /// Its lines, masked.
    pub lines: Vec<String>,
}

/// Between whom something is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leg {
    /// Client and Envoy.
    Client,
    /// Envoy and broker.
    Broker,
    /// The KDC and whoever asks it: client or broker.
    Kdc,
    /// Envoy and the service behind it.
    Upstream,
}

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// A question: client to Envoy, Envoy to broker or service, anybody to the KDC.
    Request,
    /// Its answer.
    Response,
}

/// How many scenarios held, did not, and were not seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All their steps held.
    pub held: usize,
    /// At least one step did not.
    pub failed: usize,
    /// They could not be tried.
    pub unseen: usize,
}

impl Run {
    /// How many scenarios came out how.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for scenario in &self.scenarios {
            let place = match scenario.outcome {
                Outcome::Passed => &mut tally.held,
                Outcome::Failed => &mut tally.failed,
                Outcome::NotSeen { .. } => &mut tally.unseen,
            };
            *place = place.saturating_add(1);
        }
        tally
    }

    /// Whether everything that was tried held, and something was. What could not be seen is not counted.
    #[must_use]
    pub fn held(&self) -> bool {
        let tally = self.tally();
        tally.failed == 0 && tally.held > 0
    }
}

impl Scenario {
    /// The outcome of steps that were tried; where there is none, nothing was proved.
    #[must_use]
    pub fn outcome_of(steps: &[Step]) -> Outcome {
        if !steps.is_empty() && steps.iter().all(|step| step.held) {
            Outcome::Passed
        } else {
            Outcome::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_seen_says_why_and_reads_back() {
        let outcome = Outcome::NotSeen {
            why: "w".to_owned(),
            remedy: "r".to_owned(),
        };
        let written = serde_json::to_string(&outcome).expect("it is written");
        assert_eq!(written, r#"{"not_seen":{"why":"w","remedy":"r"}}"#);
        assert_eq!(serde_json::from_str::<Outcome>(&written).expect("it is read"), outcome);
        assert_eq!(
            serde_json::to_string(&Outcome::Passed).expect("it is written"),
            r#""passed""#
        );
    }
}
