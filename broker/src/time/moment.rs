//! Reads moments as people write them, and writes them so that people can read them (RFC 3339, in UTC).

use std::fmt;
use std::str::FromStr;

use kerbridge_wire::Span;

use super::UnixTime;

/// A moment as it is written on a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// `now`
    Now,
    /// `2026-01-31T12:00:00Z`, or Unix time.
    At(UnixTime),
    /// `8h`: a span before now or after it, as is meant.
    Span(Span),
}

/// The text is no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MomentError;

impl Moment {
    /// The moment; a span is before now.
    pub fn past(self, now: UnixTime) -> UnixTime {
        match self {
            Self::Now => now,
            Self::At(time) => time,
            Self::Span(span) => UnixTime::from_seconds(now.seconds().saturating_sub(span.seconds().into())),
        }
    }

    /// The moment; a span is after now.
    pub fn future(self, now: UnixTime) -> UnixTime {
        match self {
            Self::Now => now,
            Self::At(time) => time,
            Self::Span(span) => now.plus(span.seconds().into()),
        }
    }
}

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        if text == "now" {
            return Ok(Self::Now);
        }
        if let Ok(span) = text.parse() {
            return Ok(Self::Span(span));
        }
        // A number of ten digits is of our century; one of thirteen would be milliseconds.
        if text.len() <= 10
            && let Some(seconds) = digits(text)
        {
            return Ok(Self::At(UnixTime::from_seconds(seconds)));
        }
        rfc_3339(text).map(Self::At).ok_or(MomentError)
    }
}

impl fmt::Display for MomentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected now, 2026-01-31T12:00:00Z, Unix time in seconds, or a span such as 8h")
    }
}

impl std::error::Error for MomentError {}

fn digits(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

/// `YYYY-MM-DDTHH:MM:SSZ` and nothing else: other zones and fractions are for other tools.
fn rfc_3339(text: &str) -> Option<UnixTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let three = |text: &str, separator: char, lengths: [usize; 3]| {
        let mut parts = text.split(separator);
        let mut next = |length: usize| {
            parts
                .next()
                .filter(|part| part.len() == length)
                .and_then(digits)
                .and_then(|number| i64::try_from(number).ok())
        };
        let [first, second, third] = lengths;
        let read = (next(first)?, next(second)?, next(third)?);
        parts.next().is_none().then_some(read)
    };
    let (year, month, day) = three(date, '-', [4, 2, 2])?;
    let (hour, minute, second) = three(time, ':', [2, 2, 2])?;
    if year < 1970 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_from_civil(year, month, day)?;
    // A day that the month does not have would be one of the next.
    if civil_from_days(days)? != (year, month, day) {
        return None;
    }
    let seconds = days
        .checked_mul(86_400)?
        .checked_add(hour.checked_mul(3600)?)?
        .checked_add(minute.checked_mul(60)?)?
        .checked_add(second)?;
    u64::try_from(seconds).ok().map(UnixTime::from_seconds)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, by Howard Hinnant's `days_from_civil`: years begin in March, so
/// that the day that comes and goes is the last.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let from_march = month.checked_add(9)?.rem_euclid(12);
    let day_of_year = from_march
        .checked_mul(153)?
        .checked_add(2)?
        .div_euclid(5)
        .checked_add(day)?
        .checked_sub(1)?;
    let day_of_era = year_of_era
        .checked_mul(365)?
        .checked_add(year_of_era.div_euclid(4))?
        .checked_sub(year_of_era.div_euclid(100))?
        .checked_add(day_of_year)?;
    era.checked_mul(146_097)?.checked_add(day_of_era)?.checked_sub(719_468)
}

/// The date of a day, by Howard Hinnant's `civil_from_days`.
fn civil_from_days(days: i64) -> Option<(i64, i64, i64)> {
    let days = days.checked_add(719_468)?;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = day
        .checked_sub(day.div_euclid(1460))?
        .checked_add(day.div_euclid(36_524))?
        .checked_sub(day.div_euclid(146_096))?
        .div_euclid(365);
    let before = year
        .checked_mul(365)?
        .checked_add(year.div_euclid(4))?
        .checked_sub(year.div_euclid(100))?;
    let day = day.checked_sub(before)?;
    let from_march = day.checked_mul(5)?.checked_add(2)?.div_euclid(153);
    let day = day
        .checked_sub(from_march.checked_mul(153)?.checked_add(2)?.div_euclid(5))?
        .checked_add(1)?;
    let month = from_march.checked_add(2)?.rem_euclid(12).checked_add(1)?;
    let year = era.checked_mul(400)?.checked_add(year)?;
    Some((if month <= 2 { year.checked_add(1)? } else { year }, month, day))
}

/// Shows a moment as RFC 3339 has it; one beyond the year 9999 as Unix time.
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339(pub UnixTime);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.seconds();
        let (day, of_day) = (seconds / 86_400, seconds % 86_400);
        let date = i64::try_from(day).ok().and_then(civil_from_days);
        match date {
            Some((year, month, day)) if year <= 9999 => {
                let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
                write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
            }
            Some(_) | None => write!(f, "{seconds}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::At(UnixTime::from_seconds(seconds))
    }

    #[test]
    fn a_moment_is_read_as_people_write_it() {
        for (text, moment) in [
            ("now", Moment::Now),
            ("0", at(0)),
            ("1767225600", at(1_767_225_600)),
            // date -u -d 2026-01-01T00:00:00Z +%s
            ("2026-01-01T00:00:00Z", at(1_767_225_600)),
            ("1970-01-01T00:00:00Z", at(0)),
            ("2000-02-29T23:59:59Z", at(951_868_799)),
            ("2100-03-01T00:00:00Z", at(4_107_542_400)),
            ("8h", Moment::Span("8h".parse().unwrap())),
        ] {
            assert_eq!(text.parse(), Ok(moment), "{text}");
        }
        for text in [
            "",
            "-1",
            "1767225600000",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00+01:00",
            "2026-01-01T00:00:00.5Z",
            "2026-1-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:60Z",
            "1969-12-31T23:59:59Z",
            "2026-01-01T00:00:00ZZ",
            "tomorrow",
        ] {
            assert_eq!(text.parse::<Moment>(), Err(MomentError), "{text}");
        }
    }

    #[test]
    fn a_span_is_before_now_or_after_it() {
        let now = UnixTime::from_seconds(10_000);
        let hour: Moment = "1h".parse().unwrap();
        assert_eq!((hour.past(now).seconds(), hour.future(now).seconds()), (6400, 13_600));
        assert_eq!((Moment::Now.past(now), Moment::Now.future(now)), (now, now));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(seconds in 0..253_402_300_800_u64) {
            let text = Rfc3339(UnixTime::from_seconds(seconds)).to_string();
            prop_assert_eq!(rfc_3339(&text), Some(UnixTime::from_seconds(seconds)), "{}", text);
        }

        #[test]
        fn no_text_panics(text in "[-0-9TZ:.]{0,24}") {
            let read = text.parse::<Moment>();
            prop_assert_eq!(read, text.parse());
        }

        #[test]
        fn no_moment_panics(seconds: u64) {
            prop_assert!(!Rfc3339(UnixTime::from_seconds(seconds)).to_string().is_empty());
        }
    }
}
