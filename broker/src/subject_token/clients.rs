//! Makes of the clients that have keys what [`Issuers`] knows: each vouches for itself, towards this broker.

use std::collections::BTreeMap;
use std::sync::Mutex;

use kerbridge_gate::{Config as GateConfig, ConfigErrors};
use kerbridge_wire::Span;
use kerbridge_wire::exchange::TOKEN_PATH;
use kerbridge_wire::filter_config::{FilterConfig, IssuerConfig, JwksConfig};
use kerbridge_wire::policy::{Access, FilterSettings, Policy as RawPolicy, Route};

use super::Issuers;
use super::issuers::NOT_ENVOY;
use crate::config::ClientConfig;
use crate::render::{Inline, filter_config};

/// What stands for this broker among the audiences of assertions.
pub const ASSERTION_AUDIENCE: &str = "this-broker";
/// Values of `typ`: RFC 7523 names none, and libraries write `JWT` or nothing.
const TYPES: [&str; 3] = ["JWT", "client-authentication+jwt", ""];
/// Seconds by which `iat` and `nbf` may lie ahead.
const CLOCK_SKEW: u32 = 60;

impl Issuers {
    /// Those whose assertions are taken. Their keys are [published](Issuers::publish). An assertion names us by our issuer or our
    /// token endpoint (RFC 7523 §3).
    pub fn of_clients(issuer: &str, clients: &[ClientConfig]) -> Result<Self, ConfigErrors> {
        let ours = vec![issuer.to_owned(), format!("{issuer}{TOKEN_PATH}")];
        let issuers = clients.iter().enumerate().map(|(index, client)| IssuerConfig {
            issuer: client.name.clone(),
            name: Some(format!("client-{index}")),
            audiences: BTreeMap::from([(ASSERTION_AUDIENCE.to_owned(), ours.clone())]),
            algorithms: client.algorithms.clone(),
            types: TYPES.iter().map(|&typ| typ.to_owned()).collect(),
            jwks: JwksConfig {
                cluster: Some(NOT_ENVOY.to_owned()),
                poll: Span::FIVE_SECONDS,
                max_staleness: Span::FIVE_MINUTES,
                authority: NOT_ENVOY.to_owned(),
                path: "/".to_owned(),
                inline: None,
            },
            feed: None,
            clock_skew_seconds: CLOCK_SKEW,
            expiry_skew_seconds: 0,
            max_lifetime: None,
            scope_claim: "scope".to_owned(),
            groups_claim: "groups".to_owned(),
        });
        let nothing = RawPolicy {
            route: vec![Route {
                path: Some("/".to_owned()),
                access: Access::Open,
                ..Route::default()
            }],
            filter: FilterSettings::default(),
            ..RawPolicy::default()
        };
        let config = FilterConfig {
            issuers: issuers.collect(),
            broker: None,
            ..filter_config(issuer, &nothing, Inline::default())
        };
        GateConfig::build(config.clone())?;
        Ok(Self {
            keys: Mutex::new(vec![None; config.issuers.len()]),
            claims: vec![None; config.issuers.len()],
            config,
            audiences: vec![ASSERTION_AUDIENCE.into()],
        })
    }
}
