//! Gets a token now, keeps it, and remembers what it was for.

use clap::Args;
use serde_json::json;

use super::client::{How, failed};
use super::{Failure, Output, output};
use crate::client::kept::Kept;
use crate::client::trouble::Trouble;
use crate::client::{self, Need};
use crate::time::moment::Rfc3339;
use crate::time::{Clock, UnixTime};

#[derive(Debug, Args)]
pub(super) struct Login {
    #[command(flatten)]
    how: How,
    /// How the outcome is printed; without the token, which is for token print.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) fn run(login: &Login) -> Result<(), Failure> {
    let kept = get(login).map_err(|trouble| failed(&trouble, login.output))?;
    let Kept {
        principal,
        issuer,
        scope,
        expires_at,
        ..
    } = &kept;
    let until = Rfc3339(UnixTime::from_seconds(*expires_at)).to_string();
    let (kind, name) = kept.target.named();
    let value = json!({
        "principal": principal, "issuer": issuer, "scope": scope, "expires_at": until, kind: name,
    });
    output::print_as(login.output, &value, || {
        let scopes = if scope.is_empty() { "no scopes" } else { scope.as_str() };
        format!("{principal} has a token for {name} until {until}: {scopes}\n")
    })
}

fn get(login: &Login) -> Result<Kept, Trouble> {
    let how = &login.how;
    let said = how.said();
    // Whoever names another service does not mean the keytab and scopes of the one before.
    let remembered = if said.url.is_some() || said.audience.is_some() {
        None
    } else {
        how.remembered()?
    };
    let settings = how.settings(remembered.clone())?;
    let cache = how.target().cache()?;
    let kept = client::token(&settings, &cache, Need::New, Clock::System)?;
    if remembered.is_none() {
        client::remember(&cache, &said)?;
    }
    Ok(kept)
}
