//! Says why there is no token, in one line with what mends it: one closed list for people, scripts and exit codes.

use std::fmt;

use serde::Serialize;

/// What went wrong; the word that scripts read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// It is not said which token is wanted, or what is said cannot be meant.
    NoTarget,
    /// A file that is named cannot be read.
    FileUnusable,
    /// A file of settings is wrong.
    SettingsWrong,
    /// There are no tickets.
    NoTicket,
    /// The tickets have ended.
    TicketExpired,
    /// The KDC does not let the client in: unknown, locked, or another key than the keytab's.
    LoginRefused,
    /// The KDC knows no such service as the broker is taken for.
    ServiceUnknown,
    /// No KDC answers, or none is known for the realm.
    KdcUnreachable,
    /// The clocks differ.
    ClockSkew,
    /// Kerberos failed otherwise.
    KerberosFailed,
    /// Nobody answers at the address.
    Unreachable,
    /// The server's certificate is not to be trusted.
    CertificateRefused,
    /// The server did not prove that it has the service's key.
    ServerNotProven,
    /// The answer is not what the RFC says.
    AnswerNotUnderstood,
    /// The address does not say where its tokens come from.
    NotDescribed,
    /// The broker does not take the ticket.
    TicketRefused,
    /// The broker gives no such token to this client.
    Denied,
    /// The broker cannot at the moment.
    BrokerUnavailable,
    /// The folder of the kept tokens cannot be used.
    CacheUnusable,
    /// The broker did not take the token back.
    NotRevoked,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Trouble {
    /// What went wrong, as a word.
    #[serde(rename = "error")]
    pub(crate) kind: Kind,
    /// The same for people.
    pub(crate) problem: String,
    /// What mends it.
    pub(crate) remedy: String,
}

impl Trouble {
    /// Most characters of a problem, and of a remedy.
    const LONGEST: usize = 600;

    pub(crate) fn new(kind: Kind, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            kind,
            problem: plain(&problem.into()),
            remedy: plain(&remedy.into()),
        }
    }

    /// Whether it may be gone in a moment, with nothing done: a token that is still good is handed out meanwhile.
    pub(crate) const fn is_passing(&self) -> bool {
        matches!(
            self.kind,
            Kind::Unreachable | Kind::KdcUnreachable | Kind::BrokerUnavailable
        )
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { problem, remedy, .. } = self;
        write!(f, "{problem}; {remedy}")
    }
}

/// One line: what servers and libraries say goes to a terminal.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(Trouble::LONGEST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_stays_one_line_and_moves_no_cursor() {
        let trouble = Trouble::new(Kind::Denied, "no\r\n\u{1b}[2Jtoken", "x".repeat(5000));
        let line = trouble.to_string();
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.starts_with("no   [2Jtoken; x"), "{line:?}");
        assert!(line.len() < 700);
    }
}
