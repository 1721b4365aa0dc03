//! Says why a step did not hold and what to do about it, where that can be told from what was seen.

use kerbridge_wire::Reason;

use super::ask::{Ask, Seen};
use super::{Stage, Stop};
use crate::delegation::ACCEPTOR;
use crate::engine::Target;
use crate::report::model::{Direction, Leg, Record};

/// A request with this gets the decision about it back (docs/outcomes.md).
const EXPLAIN: &str = "x-explain-kerbridge: 1";
/// What a KDC says where it has no such service (RFC 4120 §7.5.9).
const UNKNOWN: &str = "KDC_ERR_S_PRINCIPAL_UNKNOWN";
/// Where a message to or from the KDC names the service.
const SERVICE: &str = "service  ";

/// Why, in a sentence, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Diagnosis {
    pub(super) cause: String,
    pub(super) remedy: String,
}

impl Stage<'_> {
    /// Why something else came of a request than had to, on the lab's own parts.
    pub(super) fn diagnose(&mut self, ask: &Ask, seen: &Seen) -> Result<Option<Diagnosis>, Stop> {
        let status = seen.answer.status;
        let Target::Own(lab) = &mut *self.target else {
            return Ok(None);
        };
        match seen.reason.as_deref().and_then(Reason::from_word) {
            Some(Reason::SpnUnknown) => Ok(unknown_to_the_broker(&self.legs, ACCEPTOR)),
            Some(reason @ (Reason::ClockSkew | Reason::TicketNotYetValid)) => {
                let asked = seen.exchanges.last().map_or(0, |exchange| exchange.broker);
                let ahead = lab.ahead(asked, reason.as_str());
                Ok(ahead.map(|seconds| clocks_differ(reason, seconds)))
            }
            _ if (200..300).contains(&status) => {
                let route = ask.clone().header(EXPLAIN).route()?;
                let Target::Own(lab) = &mut *self.target else {
                    return Ok(None);
                };
                let policy = lab.policy()?;
                self.forget();
                Ok(route.and_then(|route| route_is_open(&policy, &route)))
            }
            _ => Ok(None),
        }
    }
}

/// The KDC was asked for a service that it does not know.
pub(super) fn unknown_to_the_kdc(legs: &[Record]) -> Option<Diagnosis> {
    let mut refused = answers(legs).filter(|record| record.summary.contains(UNKNOWN));
    let name = service(refused.next()?)?;
    let bare = without_realm(&name);
    Some(Diagnosis {
        cause: format!(
            "The KDC knows no {name} ({UNKNOWN}): clients make that name of the URL's host, and get no ticket for it."
        ),
        remedy: format!(
            "give the service's account that name: setspn -S {bare} ACCOUNT (Active Directory), or kadmin -q \"addprinc -randkey {bare}\" (MIT); \
             setspn -Q {bare} and kadmin -q \"getprinc {bare}\" say who has it. Keytab and [[kerberos.acceptor]] name it, too"
        ),
    })
}

/// The broker was shown a ticket for a name that it does not have; it has `own`.
fn unknown_to_the_broker(legs: &[Record], own: &str) -> Option<Diagnosis> {
    let name = service(
        answers(legs)
            .filter(|record| record.summary.starts_with("TGS-REP"))
            .last()?,
    )?;
    let bare = without_realm(&name);
    let reason = Reason::SpnUnknown.as_str();
    Some(Diagnosis {
        cause: format!(
            "The broker takes no ticket for {name} ({reason}): that is the name that the KDC has, and kerbridge.toml, as clients do, says {own}."
        ),
        remedy: format!(
            "give the account the right name in place of the wrong one: setspn -D {bare} ACCOUNT, then setspn -S {own} ACCOUNT (Active Directory), \
             or kadmin -q \"renprinc {bare} {own}\" (MIT); where clients shall ask for {bare}, add it to [[kerberos.acceptor]] and to the keytab"
        ),
    })
}

/// The broker refused a ticket for the time; its clock is so many seconds ahead of that of client and KDC, or behind.
fn clocks_differ(reason: Reason, ahead: i64) -> Diagnosis {
    let seconds = ahead.unsigned_abs();
    let way = if ahead < 0 { "behind" } else { "ahead of" };
    Diagnosis {
        cause: format!("The broker's clock is {seconds} s {way} that of the client and of the KDC ({reason})."),
        remedy: format!(
            "set the clock of the broker's machine by NTP: chronyc makestep there (Windows: w32tm /resync), then chronyc tracking says the \
             difference; {seconds} s is more than kerberos.clock_skew_seconds bears, which is not the place to mend it"
        ),
    }
}

/// A request passed by a route that is open to everybody.
fn route_is_open(policy: &str, route: &str) -> Option<Diagnosis> {
    let (number, line) = open_line(policy, route)?;
    Some(Diagnosis {
        cause: format!("The route \"{route}\" lets requests pass without a ticket and without a token."),
        remedy: format!(
            "policy.toml, line {number}, in the [[route]] named \"{route}\": {line}. Put in its place what a request must show, accept = \
             [\"negotiate\", \"bearer\"], audience and scopes_all; then kerbridge policy check and kerbridge policy render"
        ),
    })
}

/// The line, counted from 1, that opens this route of a policy.
fn open_line<'a>(policy: &'a str, route: &str) -> Option<(usize, &'a str)> {
    let mut sections = policy.split("\n[[route]]");
    // Of the section's own line, counted from 0.
    let mut before = sections.next()?.matches('\n').count().saturating_add(1);
    let name = format!("name = {route:?}");
    for section in sections {
        let lines = section.lines().take_while(|line| !line.starts_with('[')).enumerate();
        let mut lines = lines.map(|(at, line)| (before.saturating_add(at).saturating_add(1), line.trim()));
        if lines.clone().any(|(_, line)| line.starts_with(&name)) {
            return lines.find(|(_, line)| line.replace(' ', "").starts_with("access=\"open\""));
        }
        before = before.saturating_add(section.matches('\n').count()).saturating_add(1);
    }
    None
}

fn answers(legs: &[Record]) -> impl Iterator<Item = &Record> {
    legs.iter()
        .filter(|record| record.leg == Leg::Kdc && record.direction == Direction::Response)
}

fn service(record: &Record) -> Option<String> {
    let line = record.lines.iter().find_map(|line| line.strip_prefix(SERVICE))?;
    Some(line.to_owned())
}

fn without_realm(name: &str) -> &str {
    name.rsplit_once('@').map_or(name, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(summary: &str, service: &str) -> Record {
        Record {
            leg: Leg::Kdc,
            at_ms: 0,
            direction: Direction::Response,
            summary: summary.to_owned(),
            lines: vec!["client  alice@LAB.TEST".to_owned(), format!("{SERVICE}{service}")],
        }
    }

    #[test]
    fn a_name_that_the_kdc_does_not_have_is_named_with_the_command_that_gives_it() {
        let legs = [
            answer("AS-REP: a ticket", "krbtgt/LAB.TEST@LAB.TEST"),
            answer("KRB-ERROR 7 KDC_ERR_S_PRINCIPAL_UNKNOWN", "HTTP/localhost@LAB.TEST"),
        ];
        let Diagnosis { cause, remedy } = unknown_to_the_kdc(&legs).unwrap();
        assert!(cause.contains("no HTTP/localhost@LAB.TEST"), "{cause}");
        for command in [
            "setspn -S HTTP/localhost ACCOUNT",
            "kadmin -q \"addprinc -randkey HTTP/localhost\"",
        ] {
            assert!(remedy.contains(command), "{remedy}");
        }
        assert_eq!(unknown_to_the_kdc(&legs[..1]), None);
    }

    #[test]
    fn a_ticket_for_a_name_that_the_broker_does_not_have_says_both_names() {
        let legs = [answer("TGS-REP: a ticket of alice@LAB.TEST", "HTTP/localhots@LAB.TEST")];
        let Diagnosis { cause, remedy } = unknown_to_the_broker(&legs, "HTTP/localhost").unwrap();
        assert!(
            cause.contains("HTTP/localhots@LAB.TEST (spn_unknown)") && cause.contains("says HTTP/localhost"),
            "{cause}"
        );
        assert!(
            remedy.contains("setspn -D HTTP/localhots ACCOUNT")
                && remedy.contains("renprinc HTTP/localhots HTTP/localhost"),
            "{remedy}"
        );
        assert_eq!(unknown_to_the_broker(&[], "HTTP/localhost"), None);
    }

    #[test]
    fn a_clock_is_ahead_or_behind_by_so_much() {
        assert!(clocks_differ(Reason::ClockSkew, 600).cause.contains("600 s ahead of"));
        assert!(
            clocks_differ(Reason::TicketNotYetValid, -7)
                .cause
                .contains("7 s behind that")
        );
    }

    #[test]
    fn the_line_that_opens_a_route_is_found_in_that_route_alone() {
        let policy = "# a policy\n\n[[route]]\nname = \"health\"\naccess = \"open\"\n\n[[route]]\naccess = \"open\" # to try\nname = \"orders\"\n\n\
                      [[route]]\nname = \"reports\"\naccept = [\"bearer\"]\n\n[filter]\naccess = \"open\"\n";
        assert_eq!(open_line(policy, "health"), Some((5, "access = \"open\"")));
        assert_eq!(open_line(policy, "orders"), Some((8, "access = \"open\" # to try")));
        assert_eq!(open_line(policy, "reports"), None);
        assert_eq!(open_line(policy, "nowhere"), None);
        assert!(route_is_open(policy, "orders").unwrap().remedy.contains("line 8,"));
    }
}
