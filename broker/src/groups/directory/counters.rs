//! Counts what a directory was asked and how it answered, in labels of a closed list.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::super::GroupsError;
use super::lookup::Answer;

type OutcomeLabel = [(&'static str, &'static str); 1];

const KEPT: &str = "kept";
const ANSWERED: &str = "answered";
const NOBODY: &str = "no_account";
const CLOSED: &str = "closed";
const UNCLEAR: &str = "unclear";
const FAILED: &str = "failed";
const SLOW: &str = "slow";

/// Counts of one directory.
#[derive(Clone, Debug, Default)]
pub struct DirectoryCounters {
    look_ups: Family<OutcomeLabel, Counter>,
    connections: Counter,
    left_out: Counter,
}

impl DirectoryCounters {
    /// The same, in a registry.
    pub(crate) fn registered(registry: &mut Registry) -> Self {
        let counters = Self::default();
        registry.register(
            "directory_look_ups",
            "Accounts whose groups were needed, by how the directory answered",
            counters.look_ups.clone(),
        );
        registry.register(
            "directory_connections",
            "Connections to the directory that were opened",
            counters.connections.clone(),
        );
        registry.register(
            "directory_groups_left_out",
            "Groups of accounts that were left out since they are kept elsewhere",
            counters.left_out.clone(),
        );
        for outcome in [KEPT, ANSWERED, NOBODY, CLOSED, UNCLEAR, FAILED, SLOW] {
            drop(counters.look_ups.get_or_create(&label(outcome)));
        }
        counters
    }

    pub(super) fn kept(&self) {
        self.count(KEPT);
    }

    pub(super) fn asked(&self, outcome: &Result<Answer, GroupsError>) {
        self.count(match outcome {
            Ok(_) => ANSWERED,
            Err(GroupsError::NoAccount | GroupsError::SeveralAccounts) => NOBODY,
            Err(GroupsError::Closed(_)) => CLOSED,
            Err(GroupsError::TooSlow) => SLOW,
            Err(GroupsError::Directory(_)) => FAILED,
            Err(
                GroupsError::Elsewhere(_)
                | GroupsError::AccountElsewhere
                | GroupsError::Ambiguous(_)
                | GroupsError::TooDeep
                | GroupsError::NoPac
                | GroupsError::Unverified
                | GroupsError::Malformed
                | GroupsError::Nameless,
            ) => UNCLEAR,
        });
    }

    pub(super) fn opened(&self) {
        self.connections.inc();
    }

    pub(super) fn left_out(&self, count: usize) {
        self.left_out.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    fn count(&self, outcome: &'static str) {
        self.look_ups.get_or_create(&label(outcome)).inc();
    }
}

const fn label(outcome: &'static str) -> OutcomeLabel {
    [("outcome", outcome)]
}
