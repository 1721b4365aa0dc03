//! Says what becomes of a user whose ticket was accepted: realm, name, life left, groups.

use std::path::Path;

use kerbridge_wire::Reason;
use tokio::time::Instant;

use super::finding::{Finding, Remedy};
use super::shell::{quoted, sh};
use crate::acceptor::Accepted;
use crate::config::Config;
use crate::groups::{GroupSet, GroupSource, Wanted};
use crate::identity::{IdentityRules, Stranger};
use crate::time::UnixTime;

const CHECK: &str = "user";

/// Looks at the holder of an accepted ticket, as an exchange does.
pub fn look(accepted: &Accepted, config: &Config, ccache: &Path, now: UnixTime) -> Finding {
    let principal = accepted.client().as_str();
    let subject = match IdentityRules::of(config).judge(accepted, now) {
        Ok(subject) => subject,
        Err(stranger) => {
            return Finding::bad(CHECK, principal, stranger.reason(), stranger.to_string())
                .mended_by([remedy(stranger, accepted, ccache)]);
        }
    };
    match groups(accepted, config, now) {
        Ok(None) => Finding::good(CHECK, principal, format!("a token calls it {subject}")),
        Ok(Some(groups)) => {
            let names: Vec<&str> = groups.iter().collect();
            let names = if names.is_empty() {
                "no group".to_owned()
            } else {
                names.join(", ")
            };
            Finding::good(
                CHECK,
                principal,
                format!("a token calls it {subject}; it is in {names}"),
            )
        }
        Err((reason, problem)) => Finding::bad(CHECK, principal, reason, problem)
            .mended_by([Remedy::any("see [groups] in kerbridge.toml, and docs/groups.md")]),
    }
}

fn remedy(stranger: Stranger, accepted: &Accepted, ccache: &Path) -> Remedy {
    let (client, file) = (accepted.client(), ccache.display().to_string());
    let (name, file) = (quoted(client.as_str()), sh(&file));
    match stranger {
        Stranger::Realm => Remedy::any(format!(
            "add {:?} to kerberos.realms, if its users are to come in",
            client.realm()
        )),
        Stranger::Name(_) => Remedy::any(format!("kerbridge principal map {name}, which shows the rule")),
        Stranger::Machine => Remedy::any(format!(
            "kinit -c {file} {}",
            quoted(&format!("{}$@{}", client.name(), client.realm()))
        )),
        Stranger::Ended => Remedy::any(format!("kinit -c {file} {name}")),
        Stranger::TooShort => Remedy::any(format!(
            "kinit -c {file} -l 8h {name}, or a smaller limits.ticket_floor"
        )),
    }
}

/// Its groups, where there is a source of them.
fn groups(accepted: &Accepted, config: &Config, now: UnixTime) -> Result<Option<GroupSet>, (Reason, String)> {
    if matches!(config.groups(), GroupSource::None) {
        return Ok(None);
    }
    let internal = |error: std::io::Error| (Reason::Internal, error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(internal)?.block_on(async {
        let began = Instant::now();
        let deadline = began.checked_add(config.limits().deadline).unwrap_or(began);
        let wanted = Wanted {
            by_audience: true,
            names: config.policy().wanted_groups(),
        };
        let groups = config.groups().groups_of(accepted, wanted, now, deadline).await;
        groups.map(Some).map_err(|error| (error.reason(), error.to_string()))
    })
}
