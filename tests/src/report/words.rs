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

/// The seconds since 1970 of a moment as RFC 3339 writes it in UTC, fractions left out: `moment` backwards.
#[must_use]
pub fn unix(text: &str) -> Option<u64> {
    let number = |from: usize, digits: usize| text.get(from..from.saturating_add(digits))?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hours, minutes, seconds) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    // The year begins in March, so that its leap day is its last one.
    let (year, month) = match month {
        1..=2 => (year.checked_sub(1)?, month.saturating_add(9)),
        3..=12 => (year, month.saturating_sub(3)),
        _ => return None,
    };
    let leap_days = (year / 4).saturating_sub(year / 100).saturating_add(year / 400);
    let day_of_year = month.saturating_mul(153).saturating_add(2) / 5;
    let days = [year.saturating_mul(365), leap_days, day_of_year, day]
        .into_iter()
        .fold(0_u64, u64::saturating_add)
        .checked_sub(719_469)?;
    let of_day = hours
        .saturating_mul(3600)
        .saturating_add(minutes.saturating_mul(60))
        .saturating_add(seconds);
    Some(days.saturating_mul(86_400).saturating_add(of_day))
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
    fn a_moment_is_read_back() {
        for seconds in [0, 951_827_696, 1_735_689_599, 1_740_787_200, 4_107_542_400] {
            assert_eq!(unix(&moment(seconds)), Some(seconds));
        }
        assert_eq!(unix("2026-11-26T07:26:40.123456Z"), Some(1_795_678_000));
        assert_eq!(unix("2026-13-26T07:26:40Z"), None);
        assert_eq!(unix("yesterday"), None);
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
