//! Says to the audit when this broker began, with what, and when it ended.

use crate::audit;
use crate::config::Config;
use crate::exchange::TicketToToken;
use crate::log::KEPT;

/// It answers from now on.
pub(super) fn started(config: &Config, to_token: Option<&TicketToToken>) {
    tracing::info!(
        name: KEPT,
        target: audit::TARGET,
        version = env!("CARGO_PKG_VERSION"),
        issuer = config.issuer(),
        kid = to_token.map(|direction| direction.keyring.signing().id().to_owned()),
        policy_sha256 = config.policy_digest(),
        pid = std::process::id(),
        "broker started"
    );
}

/// It does not answer any more.
pub(super) fn stopped(signal: Option<&str>) {
    tracing::info!(
        name: KEPT,
        target: audit::TARGET,
        signal,
        pid = std::process::id(),
        "broker stopped"
    );
}
