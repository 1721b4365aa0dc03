//! Says which Envoys are measured: each candidate's filters, the tokens that load it, and what it must refuse.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::record::Candidate;
use kerbridge_tests::bench::signer::{Signer, claims};
use kerbridge_tests::token::{alter_claims, with};
use serde_json::{Value, json};

use crate::bootstrap::{HandsOn, bootstrap, empty_wasm, ext_authz, jwt_authn, rbac};
use crate::kerbridge::{self, Size};
use crate::service::{REVOCATIONS, Service};

/// Tokens of the setups that take many in turn.
const MANY: usize = 20_000;
/// A cache that holds them.
const LARGE_CACHE: usize = 25_000;
/// The number of the token that is revoked; no load uses it.
const REVOKED: usize = 999_999_999;
/// jwt_authn's own default size of its cache.
const JWT_CACHE: usize = 100;

/// Keys, and what Envoy asks.
pub(crate) struct World {
    folder: PathBuf,
    es256: Arc<Signer>,
    rs256: Signer,
    service: Service,
}

/// One Envoy to be measured.
pub(crate) struct Plan {
    /// What it is called in the output.
    pub(crate) name: String,
    /// Its configuration.
    pub(crate) yaml: String,
    /// The tokens that load it, one in each line.
    pub(crate) tokens: PathBuf,
    /// How many.
    pub(crate) count: usize,
    /// A good token.
    pub(crate) good: String,
    /// Tokens that it must refuse, and with what.
    pub(crate) refused: Vec<Refused>,
}

/// A token that must be refused.
pub(crate) struct Refused {
    /// What is wrong with it.
    pub(crate) why: &'static str,
    /// The token.
    pub(crate) token: String,
    /// The statuses that say so.
    pub(crate) statuses: &'static [u16],
}

/// What a setup claims to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Checks {
    Nothing,
    Token,
    Scope,
    Revocation,
}

impl World {
    /// New keys, and the service, in this folder.
    pub(crate) fn new(folder: &Path) -> Result<Self, HarnessError> {
        let revoked = claims(REVOKED);
        let jti = revoked.get("jti").and_then(Value::as_str).unwrap_or_default();
        let es256 = Arc::new(Signer::es256()?);
        Ok(Self {
            folder: folder.to_owned(),
            rs256: Signer::rs256(folder)?,
            service: Service::start(Arc::clone(&es256), jti)?,
            es256,
        })
    }

    /// The Envoy of a candidate.
    pub(crate) fn plan(&self, candidate: Candidate) -> Result<Plan, HarnessError> {
        let (es256, rs256): (&Signer, &Signer) = (&self.es256, &self.rs256);
        let ours = |signer, cached| {
            let size = Size {
                cached,
                ..Size::default()
            };
            kerbridge::filter(signer, size).map(|filter| vec![filter])
        };
        let (signer, filters, count, checks) = match candidate {
            Candidate::Bare => (es256, Vec::new(), 1, Checks::Nothing),
            Candidate::EmptyWasm => (es256, vec![empty_wasm()?], 1, Checks::Nothing),
            Candidate::JwtCacheEs256 => (
                es256,
                vec![jwt_authn(es256, JWT_CACHE, HandsOn::Headers)],
                1,
                Checks::Token,
            ),
            Candidate::JwtCacheRs256 => (
                rs256,
                vec![jwt_authn(rs256, JWT_CACHE, HandsOn::Headers)],
                1,
                Checks::Token,
            ),
            Candidate::JwtColdEs256 => (es256, vec![jwt_authn(es256, 0, HandsOn::Headers)], 1, Checks::Token),
            Candidate::JwtColdRs256 => (rs256, vec![jwt_authn(rs256, 0, HandsOn::Headers)], 1, Checks::Token),
            Candidate::JwtRbac => (
                es256,
                vec![jwt_authn(es256, JWT_CACHE, HandsOn::Metadata), rbac()],
                1,
                Checks::Scope,
            ),
            Candidate::JwtRbacManyTokens => (
                es256,
                vec![jwt_authn(es256, LARGE_CACHE, HandsOn::Metadata), rbac()],
                MANY,
                Checks::Scope,
            ),
            Candidate::JwtRbacExtAuthz => (
                es256,
                vec![
                    jwt_authn(es256, JWT_CACHE, HandsOn::LookedUp),
                    rbac(),
                    ext_authz(self.service.port()),
                ],
                1,
                Checks::Revocation,
            ),
            Candidate::KerbridgeWarmEs256 => (es256, ours(es256, None)?, 1, Checks::Scope),
            Candidate::KerbridgeWarmRs256 => (rs256, ours(rs256, None)?, 1, Checks::Scope),
            Candidate::KerbridgeColdEs256 => (es256, ours(es256, Some(0))?, 1, Checks::Scope),
            Candidate::KerbridgeColdRs256 => (rs256, ours(rs256, Some(0))?, 1, Checks::Scope),
            Candidate::KerbridgeManyTokens => (es256, ours(es256, Some(LARGE_CACHE))?, MANY, Checks::Scope),
            Candidate::KerbridgeManyTokensDefaultCache => (es256, ours(es256, None)?, MANY, Checks::Scope),
            Candidate::KerbridgeWarmRevocations => {
                let size = Size {
                    feed: true,
                    ..Size::default()
                };
                (es256, vec![kerbridge::filter(es256, size)?], 1, Checks::Revocation)
            }
        };
        self.build(candidate.name(), signer, &filters, count, checks)
    }

    /// kerbridge with this many of something.
    pub(crate) fn grown(&self, dimension: Dimension, number: usize) -> Result<Plan, HarnessError> {
        let mut size = Size::default();
        let mut tokens = 1;
        match dimension {
            Dimension::Rules => size.rules = number,
            Dimension::Issuers => size.issuers = number,
            Dimension::CachedTokens => {
                size.cached = Some(number.saturating_add(number / 4).saturating_add(1));
                tokens = number;
            }
            Dimension::Revocations => size.feed = number > 0,
        }
        let filter = kerbridge::filter(&self.es256, size)?;
        let name = format!("{} {number}", dimension.name());
        self.build(&name, &self.es256, &[filter], tokens, Checks::Scope)
    }

    fn build(
        &self,
        name: &str,
        signer: &Signer,
        filters: &[Value],
        count: usize,
        checks: Checks,
    ) -> Result<Plan, HarnessError> {
        let all = signer.tokens(count)?;
        let tokens = self.folder.join(format!("{}.tokens", name.replace(' ', "-")));
        std::fs::write(&tokens, all.join("\n") + "\n")
            .map_err(|source| HarnessError::io("write the tokens", source))?;
        let good = all.into_iter().next().unwrap_or_default();
        Ok(Plan {
            name: name.to_owned(),
            yaml: bootstrap(filters, self.service.port()),
            tokens,
            count,
            refused: refused(signer, &good, checks)?,
            good,
        })
    }
}

/// What a setup that checks this much must refuse.
fn refused(signer: &Signer, good: &str, checks: Checks) -> Result<Vec<Refused>, HarnessError> {
    let mut tokens = Vec::new();
    if checks >= Checks::Token {
        let altered = alter_claims(good, |claims| with(claims, "sub", json!("root@EXAMPLE.COM")));
        tokens.push(Refused {
            why: "altered claims",
            token: altered.unwrap_or_default(),
            statuses: &[401],
        });
    }
    if checks >= Checks::Scope {
        tokens.push(Refused {
            why: "no scope",
            token: signer.token(&with(claims(0), "scope", json!("openid")))?,
            statuses: &[403],
        });
    }
    if checks >= Checks::Revocation {
        tokens.push(Refused {
            why: "revoked",
            token: signer.token(&claims(REVOKED))?,
            // ext_authz says 403, kerbridge 401: both refuse.
            statuses: &[401, 403],
        });
    }
    Ok(tokens)
}

/// In what kerbridge grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dimension {
    /// Rules of the configuration; those of the requests are the last.
    Rules,
    /// Issuers of the configuration; that of the tokens is the last.
    Issuers,
    /// Tokens in turn, all of them cached.
    CachedTokens,
    /// Revocations that the feed brings; without any, no feed.
    Revocations,
}

impl Dimension {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Rules, Self::Issuers, Self::CachedTokens, Self::Revocations];

    /// What tables and drawings call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Issuers => "issuers",
            Self::CachedTokens => "cached tokens",
            Self::Revocations => "revocations",
        }
    }

    /// Its sizes. The shipped configuration has four rules.
    pub(crate) const fn sizes(self) -> &'static [usize] {
        match self {
            Self::Rules => &[4, 10, 100, 1_000],
            Self::Issuers => &[1, 10, 100],
            Self::CachedTokens => &[1, 1_000, 10_000, 100_000],
            Self::Revocations => &[0, REVOCATIONS],
        }
    }
}
