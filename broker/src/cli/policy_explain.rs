//! Says what somebody gets for an audience, by a ticket or by a trade, and what each line of the policy has to say about it.

use clap::Args;
use kerbridge_gss::Enctype;

use super::policy_decision::{Question, Trade, USUAL_ENCTYPE};
use super::{Check, Failure, output};
use crate::config::PolicyConfig;
use crate::policy::{Scopes, no_group_name};
use crate::principal;

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A full principal, such as alice@EXAMPLE.COM.
    principal: String,
    /// The name of an audience.
    audience: String,
    /// A group that they are in; may be given more than once. Without it those of groups.static_file count, where there is
    /// one.
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// Scopes that are asked for, separated by spaces; all that are granted where absent.
    #[arg(long, value_name = "SCOPES")]
    scope: Option<Scopes>,
    /// As if the ticket were bound to the TLS channel.
    #[arg(long)]
    channel_bound: bool,
    /// As if the ticket were encrypted by this, by MIT's name; aes256-cts-hmac-sha1-96 where absent.
    #[arg(long, value_name = "NAME")]
    enctype: Option<Enctype>,
    /// As if a client traded what their ticket gets for this audience; --client says which.
    #[arg(long, value_name = "AUDIENCE", requires = "client")]
    from: Option<String>,
    /// The client that trades, by the name that it authenticates with.
    #[arg(long, value_name = "NAME", requires = "from")]
    client: Option<String>,
    #[command(flatten)]
    check: Check,
}

pub(super) fn run(explain: &Explain) -> Result<(), Failure> {
    let path = &explain.check.file.config;
    let question = question(explain)?;
    let config = match PolicyConfig::load(path) {
        Ok(config) => config,
        Err(problems) => return output::checked(path, Err(problems), explain.check.output),
    };
    let answer = question.ask(&config);
    output::print_as(explain.check.output, &answer, || answer.to_string())?;
    if answer.is_given() { Ok(()) } else { Err(Failure::No) }
}

fn question(explain: &Explain) -> Result<Question, Failure> {
    let usage = |problem: String| {
        output::complain(problem);
        Failure::Usage
    };
    let name = &explain.principal;
    let principal = principal::canonical(name).map_err(|error| usage(format!("{name:?}: {error}")))?;
    for group in &explain.groups {
        if let Some(problem) = no_group_name(group) {
            return Err(usage(format!("--group {group:?} {problem}")));
        }
    }
    let trade = explain.from.clone().zip(explain.client.clone());
    let trade = trade.map(|(from, client)| Trade { from, client });
    if let Some((client, why)) = trade.as_ref().and_then(Trade::nobody) {
        return Err(usage(format!("--client {client:?} {why}")));
    }
    let groups = &explain.groups;
    Ok(Question {
        principal,
        groups: (!groups.is_empty()).then(|| groups.iter().map(String::as_str).collect()),
        channel_bound: explain.channel_bound,
        enctype: explain.enctype.unwrap_or(Enctype::from(USUAL_ENCTYPE)),
        audience: explain.audience.clone(),
        trade,
        requested: explain.scope.clone(),
    })
}
