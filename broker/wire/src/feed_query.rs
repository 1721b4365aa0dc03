//! Says what a filter asks a feed for: everything, what is new, or the next page of what it is reading.
//!
//! | query | asks for |
//! |---|---|
//! | none | the first page of a full snapshot |
//! | `epoch=…&version=7` | what came after version 7 of this epoch: a delta with `base` 7, which may be empty; a snapshot where that is not known any more |
//! | `epoch=…&version=9&page=1` | page 1 of the snapshot at version 9 |
//! | `epoch=…&version=9&base=7&page=1` | page 1 of the delta from version 7 to version 9 |
//!
//! With a page goes `at`, the `iat` of the first page: brokers that share a store cut alike by it, so that each has the page that
//! goes on from another's. One that knows nothing of it looks among what it has cut itself.

use serde::Deserialize as _;
use serde::de::value::{BorrowedStrDeserializer, Error};

use crate::feed::Epoch;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedQuery {
    /// A full snapshot, from its first page.
    Snapshot,
    /// What came after this version.
    Since {
        /// The store's name.
        epoch: Epoch,
        /// The version that is known.
        version: u64,
    },
    /// A later page of a snapshot or delta of which the page before it was read.
    Page {
        /// The store's name.
        epoch: Epoch,
        /// The version to which it leads.
        version: u64,
        /// The version that a delta builds on.
        base: Option<u64>,
        /// Which page, from 1.
        page: u32,
        /// `iat` of the first page, where the asker says it.
        at: Option<u64>,
    },
}

impl FeedQuery {
    /// The request target: a path, which may have a query of its own, and this question.
    pub fn target(self, path: &str) -> String {
        let separator = if path.contains('?') { '&' } else { '?' };
        match self {
            Self::Snapshot => path.to_owned(),
            Self::Since { epoch, version } => format!("{path}{separator}epoch={epoch}&version={version}"),
            Self::Page {
                epoch,
                version,
                base,
                page,
                at,
            } => {
                let optional =
                    |name, value: Option<u64>| value.map_or_else(String::new, |value| format!("&{name}={value}"));
                let (base, at) = (optional("base", base), optional("at", at));
                format!("{path}{separator}epoch={epoch}&version={version}{base}&page={page}{at}")
            }
        }
    }

    /// Reads the question of a query string. Parameters of other names are ignored; one of these names that cannot be read,
    /// or stands without those that it needs, asks for a snapshot: that is always a right answer.
    pub fn parse(query: &str) -> Self {
        let value = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        let number = |name: &str| value(name).map(str::parse::<u64>);
        let epoch =
            value("epoch").and_then(|text| Epoch::deserialize(BorrowedStrDeserializer::<Error>::new(text)).ok());
        let (Some(epoch), Some(Ok(version))) = (epoch, number("version")) else {
            return Self::Snapshot;
        };
        let (Ok(base), Ok(at)) = (number("base").transpose(), number("at").transpose()) else {
            return Self::Snapshot;
        };
        match (value("page").map(str::parse), base) {
            (None, None) => Self::Since { epoch, version },
            (Some(Ok(page)), base) if page > 0 => Self::Page {
                epoch,
                version,
                base,
                page,
                at,
            },
            (Some(_), _) | (None, Some(_)) => Self::Snapshot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::Hex;

    const EPOCH: Epoch = Hex([0xab; 16]);

    #[test]
    fn a_question_is_read_as_it_was_asked() {
        for query in [
            FeedQuery::Snapshot,
            FeedQuery::Since {
                epoch: EPOCH,
                version: 7,
            },
            FeedQuery::Page {
                epoch: EPOCH,
                version: u64::MAX,
                base: None,
                page: 1,
                at: None,
            },
            FeedQuery::Page {
                epoch: EPOCH,
                version: 9,
                base: Some(7),
                page: 999,
                at: Some(1_700_000_000),
            },
        ] {
            for path in ["/v1/revocations", "/feed?tenant=a"] {
                let target = query.target(path);
                let (before, asked) = target.split_once('?').unwrap_or((&target, ""));
                assert!(path.starts_with(before));
                assert_eq!(FeedQuery::parse(asked), query, "{target}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_asks_for_a_snapshot() {
        let epoch = EPOCH.to_string();
        for query in [
            String::new(),
            "version=7".into(),
            format!("epoch={epoch}"),
            format!("epoch={epoch}&version=-1"),
            format!("epoch={}&version=7", epoch.get(1..).unwrap()),
            format!("epoch={epoch}&version=7&page=0"),
            format!("epoch={epoch}&version=7&page=x"),
            format!("epoch={epoch}&version=7&base=6"),
            format!("epoch={epoch}&version=7&base=x&page=1"),
            format!("epoch={epoch}&version=7&page=1&at=x"),
        ] {
            assert_eq!(FeedQuery::parse(&query), FeedQuery::Snapshot, "{query}");
        }
    }
}
