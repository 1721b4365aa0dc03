//! Trades a user's token for a token of another audience: verifies it, finds out who it is about, asks the policy what is left
//! of it, mints.
//!
//! Nothing is ever added. Audience and scopes come from the policy's lines and are within what the token has; the new token
//! ends with it at the latest, has its session, so that a logout takes both, and says through whose hands it came.

use kerbridge_gate::certificate::CertificateDigest;
use kerbridge_gss::Principal;
use kerbridge_wire::Reason;
use tokio::time::Instant;

use super::request::Trade;
use super::to_token::{Issued, TicketToToken};
use super::{Caller, Refusal};
use crate::delegation::Delegation;
use crate::identity::Identity;
use crate::keyring::SessionId;
use crate::policy::{Sought, TradeDenial};
use crate::revocation::TokenNames;
use crate::subject_token::{Feeds, NotVerified, VerifiedToken, Verifiers};
use crate::time::UnixTime;
use crate::token::Minter;
use crate::trace::{self, Step};

/// All that it takes to make tokens of tokens, beside what it takes to make them at all.
#[derive(Debug)]
pub struct TokenToToken {
    /// What verifies them.
    pub verifiers: Verifiers,
    /// What asks the KDC who another issuer's users are, where their names do not say it.
    pub names: Option<Delegation>,
    /// What other issuers have revoked.
    pub feeds: Feeds,
}

impl TokenToToken {
    /// Trades one token, or says why not. `minting` is what makes the new one.
    pub(super) async fn exchange(
        &self,
        request: Trade,
        minting: &TicketToToken,
        caller: &Caller,
        now: UnixTime,
        began: Instant,
    ) -> Result<Issued, Refusal> {
        let Trade {
            subject_token,
            target,
            scope,
        } = request;
        // A service that was sent a token must not be able to have another for it, unless the policy names that service.
        let Some(client) = caller.authenticated() else {
            return Err(Refusal::new(
                Reason::ClientUnauthenticated,
                "tokens are traded for clients that say who they are",
            ));
        };
        let deadline = began.checked_add(minting.deadline).unwrap_or(began);
        // Before the token: a service of nobody's costs no signature check.
        let audience = target.find(&minting.policy)?.name().to_owned();
        let verify = self.verifiers.verify(subject_token, now, deadline);
        let token = trace::step(Step::Verify, verify, |bad| bad.reason).await?;
        let shown = |refusal: Refusal| Refusal {
            subject: Some(token.subject().into()),
            token_id: token.token_id().map(Into::into),
            ..refusal
        };
        check_holder(&token, caller.proof.certificate()).map_err(shown)?;
        let judged = self
            .feeds
            .check(token.issuer(), &token.feed_names(), now, deadline)
            .await;
        judged.map_err(|reason| shown(Refusal::new(reason, "by what is known of its issuer's feed")))?;
        let user = self.user(&token, minting, now, deadline).await.map_err(shown)?;
        let known = |refusal: Refusal| Refusal {
            principal: Some(user.as_str().into()),
            ..shown(refusal)
        };
        let session = session(&token, minting).map_err(known)?;
        let identity = Identity::of_token(&token, user.clone(), session, &minting.rules, now)
            .map_err(|stranger| known(Refusal::new(stranger.reason(), stranger.to_string())))?;
        // By the names that the new token will have: another issuer's token of before a logout is as old as one of ours.
        let names = TokenNames {
            token: token.names().and_then(|names| names.token),
            session: Some(identity.session().as_str()),
            subject: identity.subject().as_str(),
            issued: token.issued(),
        };
        minting
            .revocations
            .catch_up(deadline)
            .await
            .map_err(|error| known(error.into()))?;
        let is_good = minting.revocations.check(&names, now);
        is_good.map_err(|error| known(Refusal::new(error.reason(), error.to_string())))?;
        let grant = minting
            .policy
            .trade(identity, &token, client, &audience, scope.as_ref());
        let grant = grant.map_err(|denial| known(denial.into()))?;
        // It is this client that uses it.
        let grant = grant.for_client_with(caller.proof.certificate());
        let grant = grant.map_err(|denial| known(Refusal::new(denial.reason(), denial.to_string())))?;
        let unrevoked = minting.revocations.admit(&grant, now);
        let unrevoked = unrevoked.map_err(|error| known(Refusal::new(error.reason(), error.to_string())))?;
        let minter = Minter::new(&minting.issuer, minting.keyring.signing());
        trace::given(&audience);
        let signed = minter.issue(unrevoked, client, deadline);
        let minted = trace::step(Step::Sign, signed, |error| error.reason()).await;
        let minted = minted.map_err(|error| known(Refusal::new(error.reason(), error.to_string())))?;
        Ok(Issued {
            grant,
            token: minted,
            negotiate: None,
            traded: Some(token),
        })
    }

    /// Who a token is about.
    async fn user(
        &self,
        token: &VerifiedToken,
        minting: &TicketToToken,
        now: UnixTime,
        deadline: Instant,
    ) -> Result<Principal, Refusal> {
        match (minting.policy.subjects().sought(token)?, &self.names) {
            (Sought::Principal(principal), _) => Ok(principal),
            (Sought::ByKdc(name), Some(delegation)) => {
                let resolve = delegation.resolve(&name, now, deadline);
                Ok(trace::step(Step::Resolve, resolve, |none| none.reason).await?)
            }
            (Sought::ByKdc(_), None) => Err(Refusal::new(
                Reason::PrincipalNotMapped,
                "only the KDC knows who that is, and it is asked where there is a [delegation]",
            )),
        }
    }
}

/// A token that is bound to a certificate is of use to its holder alone.
pub(super) fn check_holder(token: &VerifiedToken, certificate: Option<CertificateDigest>) -> Result<(), Refusal> {
    if token.confirmation().is_held_with(certificate) {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::CertificateMismatch,
        "the token is bound to what its bearer did not show",
    ))
}

/// The session that the new token belongs to.
fn session(token: &VerifiedToken, minting: &TicketToToken) -> Result<SessionId, Refusal> {
    let missing = || {
        Refusal::new(
            Reason::MissingClaim,
            "the token names no session, and has no identifier either",
        )
    };
    match token.names() {
        Some(_) => SessionId::of_token(token).ok_or_else(missing),
        None => {
            let named = token.session().or(token.token_id()).ok_or_else(missing)?;
            Ok(minting.keyring.foreign_session(token.issuer(), named))
        }
    }
}

impl From<NotVerified> for Refusal {
    fn from(NotVerified { reason }: NotVerified) -> Self {
        Self::new(reason, "the token is refused")
    }
}

impl From<TradeDenial> for Refusal {
    fn from(denial: TradeDenial) -> Self {
        Self::new(denial.reason(), denial.to_string())
    }
}
