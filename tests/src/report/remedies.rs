//! Finds what to do about a reason, as its document says it.

use crate::document::{quoted, tables};

/// The closed list of reasons, each with its remedy.
const REASONS: &str = include_str!("../../../docs/reasons.md");

/// What docs/reasons.md says to do about this reason; nothing where there is no such reason.
#[must_use]
pub fn of(reason: &str) -> Option<String> {
    let rows = tables(REASONS, "reason");
    let row = rows
        .iter()
        .find(|row| row.first().is_some_and(|cell| quoted(cell).concat() == reason))?;
    Some(plain(row.get(3)?))
}

/// Markdown as a person reads it: no backticks, and of links their words.
fn plain(cell: &str) -> String {
    let mut text = String::new();
    let mut rest = cell;
    while let Some((before, link)) = rest.split_once("](") {
        let (before, words) = before.rsplit_once('[').unwrap_or((before, ""));
        text.push_str(before);
        text.push_str(words);
        rest = link.split_once(')').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    text.replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_name_and_a_wrong_clock_have_their_remedies() {
        assert!(
            of("spn_unknown")
                .expect("it has one")
                .contains("add it to account, keytab and configuration")
        );
        assert!(of("clock_skew").expect("it has one").contains("chronyc makestep"));
        assert_eq!(of("no_such_reason"), None);
    }

    #[test]
    fn a_link_is_its_words() {
        assert_eq!(
            plain("see [the `keytab`](keytabs.md), then `klist`"),
            "see the keytab, then klist"
        );
        assert_eq!(
            plain("`[realms]` in [krb5.conf](k.md) or `[x]`"),
            "[realms] in krb5.conf or [x]"
        );
    }
}
