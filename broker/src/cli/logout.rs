//! Has kept tokens taken back and forgets them.

use clap::Args;
use serde_json::json;

use super::client::{Target, failed};
use super::{Failure, Output, output};
use crate::client::trouble::Trouble;
use crate::client::{self, LoggedOut};
use crate::time::Clock;
use crate::time::moment::Rfc3339;

#[derive(Debug, Args)]
pub(super) struct Logout {
    #[command(flatten)]
    target: Target,
    /// How the outcome is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// All tokens where none is named.
pub(super) fn run(logout: &Logout) -> Result<(), Failure> {
    let done = log_out(logout).map_err(|trouble| failed(&trouble, logout.output))?;
    let LoggedOut { revoked, standing } = &done;
    let not_taken_back: Vec<_> = standing
        .iter()
        .map(|(until, trouble)| json!({ "until": Rfc3339(*until).to_string(), "because": trouble }))
        .collect();
    let value = json!({ "revoked": revoked, "forgotten": not_taken_back });
    output::print_as(logout.output, &value, || match revoked {
        0 if standing.is_empty() => "no token was kept\n".to_owned(),
        // What became of them is said below.
        0 => String::new(),
        1 => "one token is taken back and forgotten\n".to_owned(),
        _ => format!("{revoked} tokens are taken back and forgotten\n"),
    })?;
    if logout.output == Output::Text {
        for (until, trouble) in standing {
            output::complain(format_args!(
                "a token is forgotten here and good until {}: {trouble}",
                Rfc3339(*until)
            ));
        }
    }
    if standing.is_empty() {
        Ok(())
    } else {
        Err(Failure::TryAgain)
    }
}

fn log_out(logout: &Logout) -> Result<LoggedOut, Trouble> {
    let wanted = logout.target.named()?;
    client::log_out(&logout.target.cache()?, wanted.as_ref(), Clock::System)
}
