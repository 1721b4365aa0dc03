//! Says how a report names things, how long something took and when it was.

use super::model::{Credential, Direction, Holder, Kdc, Leg, Outcome, Store};

pub(super) const fn holder(holder: Holder) -> &'static str {
    match holder {
        Holder::Client => "client",
        Holder::Filter => "filter",
        Holder::Broker => "broker",
        Holder::Upstream => "service",
    }
}

pub(super) const fn credential(credential: Credential) -> &'static str {
    match credential {
        Credential::Ticket => "ticket",
        Credential::Token => "token",
        Credential::Cookie => "cookie",
        Credential::ServiceTicket => "ticket for the service",
        Credential::ApReq => "AP-REQ",
    }
}

/// The class of a credential in the style, which gives its colour.
pub(super) const fn credential_class(credential: Credential) -> &'static str {
    match credential {
        Credential::Ticket => "ticket",
        Credential::Token => "token",
        Credential::Cookie => "cookie",
        Credential::ServiceTicket => "service-ticket",
        Credential::ApReq => "ap-req",
    }
}

pub(super) const fn leg(leg: Leg) -> &'static str {
    match leg {
        Leg::Client => "client",
        Leg::Broker => "broker",
        Leg::Kdc => "KDC",
        Leg::Upstream => "service",
    }
}

/// Between whom a leg carries.
pub(super) const fn ends(leg: Leg) -> &'static str {
    match leg {
        Leg::Client => "client and Envoy",
        Leg::Broker => "Envoy and broker",
        Leg::Kdc => "client or broker, and KDC",
        Leg::Upstream => "Envoy and service",
    }
}

pub(super) const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Request => "request",
        Direction::Response => "answer",
    }
}

pub(super) const fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "held",
        Outcome::Failed => "did not hold",
        Outcome::NotSeen { .. } => "not seen",
    }
}

/// The class of an outcome in the style.
pub(super) const fn outcome_class(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "held",
        Outcome::Failed => "failed",
        Outcome::NotSeen { .. } => "unseen",
    }
}

pub(super) const fn kdc(kdc: Kdc) -> &'static str {
    match kdc {
        Kdc::Mit => "MIT Kerberos, the lab's",
        Kdc::Samba => "Samba Active Directory, the lab's",
        Kdc::Yours => "your own",
    }
}

pub(super) const fn store(store: Store) -> &'static str {
    match store {
        Store::Redb => "a file of the broker's (redb)",
        Store::Postgres => "PostgreSQL, shared",
        Store::Yours => "your own",
    }
}

/// How long something took, as a person says it.
#[must_use]
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{seconds}.{} s", ms % 1000 / 100),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// A moment in UTC, by Howard Hinnant's `civil_from_days`, for 1970 and later.
pub(super) fn moment(unix: u64) -> String {
    let (days, rest) = (unix / 86_400, unix % 86_400);
    // Days since 0000-03-01, in eras of 400 years.
    let days = days.saturating_add(719_468);
    let (era, day) = (days / 146_097, days % 146_097);
    let skipped = (day / 1460).saturating_add(day / 146_096);
    let year_of_era = day.saturating_sub(skipped).saturating_add(day / 36_524) / 365;
    let before = year_of_era.saturating_mul(365).saturating_add(year_of_era / 4);
    let day_of_year = day.saturating_sub(before.saturating_sub(year_of_era / 100));
    let shifted = day_of_year.saturating_mul(5).saturating_add(2) / 153;
    let first = shifted.saturating_mul(153).saturating_add(2) / 5;
    let day = day_of_year.saturating_sub(first).saturating_add(1);
    let month = if shifted < 10 {
        shifted.saturating_add(3)
    } else {
        shifted.saturating_sub(9)
    };
    let year = era
        .saturating_mul(400)
        .saturating_add(year_of_era)
        .saturating_add(u64::from(month <= 2));
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        rest / 3600,
        rest % 3600 / 60,
        rest % 60
    )
}

/// At most so many characters, with a mark where something was cut off.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let mut short: String = text.chars().take(most).collect();
    if text.chars().nth(most).is_some() {
        short.pop();
        short.push('…');
    }
    short
}

/// A number with its noun.
pub(super) fn counted(number: usize, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_named_in_utc() {
        assert_eq!(moment(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(moment(951_827_696), "2000-02-29 12:34:56 UTC");
        assert_eq!(moment(1_735_689_599), "2024-12-31 23:59:59 UTC");
        assert_eq!(moment(4_107_542_400), "2100-03-01 00:00:00 UTC");
    }

    #[test]
    fn times_have_the_unit_that_a_person_would_use() {
        assert_eq!(
            [0, 999, 1000, 59_999, 125_000].map(duration),
            ["0 ms", "999 ms", "1.0 s", "59.9 s", "2 min 5 s"]
        );
    }

    #[test]
    fn a_text_that_is_too_long_says_so() {
        assert_eq!(shortened("Kerberos", 8), "Kerberos");
        assert_eq!(shortened("Kerberos", 5), "Kerb…");
    }
}
