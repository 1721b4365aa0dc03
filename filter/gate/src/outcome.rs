//! Says what the rest of Envoy learns of a decision, as filter state, and how a stream is ended that had passed.

use kerbridge_wire::Reason;
use kerbridge_wire::policy::Scheme;

use crate::config::Config;
use crate::refusal::LocalReply;
use crate::response::Admitted;
use crate::secret::Secret;
use crate::step::Decision;
use crate::verified::Verified;

/// The names of the filter state that a decision sets, without the `wasm.` that Envoy puts before each.
pub const FILTER_STATE: [&str; 8] = [
    "kerbridge.reason",
    "kerbridge.route",
    "kerbridge.subject",
    "kerbridge.issuer",
    "kerbridge.audience",
    "kerbridge.scope",
    "kerbridge.jti",
    "kerbridge.sid",
];

/// What filter state says of a decision: the reason and the route always; who calls, only behind verified claims. A name
/// that is not set here stays unset, and no later filter of ours sets it.
pub fn filter_state(config: &Config, decision: &Decision, verified: Option<&Verified>) -> Vec<(&'static str, Vec<u8>)> {
    let [reason, route, subject, issuer, audience, scope, jti, sid] = FILTER_STATE;
    let mut values = vec![
        (reason, decision.reason.as_str().as_bytes().to_vec()),
        (route, decision.route_name().as_bytes().to_vec()),
    ];
    let Some(verified) = verified else { return values };
    let claims = verified.claims();
    values.push((subject, claims.subject().as_bytes().to_vec()));
    if let Some(known) = config.issuers().get(claims.issuer()) {
        values.push((issuer, known.issuer.as_bytes().to_vec()));
    }
    if let Some(rule) = decision.route.as_ref().and_then(|route| route.rule()) {
        values.push((audience, rule.audience().as_bytes().to_vec()));
    }
    values.push((scope, claims.scopes().join(" ").into_bytes()));
    for (name, claim) in [(jti, claims.token_id()), (sid, claims.session())] {
        if let Some(claim) = claim {
            values.push((name, claim.as_bytes().to_vec()));
        }
    }
    values
}

impl Admitted {
    /// The answer to a request that had passed and whose token has ended or was revoked since. Where the response has begun
    /// its client sees the stream reset, and only the log sees the reason. Envoy no longer shows the request's identifier
    /// then.
    pub fn ended(&self, reason: Reason, config: Option<&Config>) -> LocalReply {
        let mut decision = self.decision().clone();
        decision.reason = reason;
        let rule = decision.route.as_ref().and_then(|route| route.rule());
        let is_token = reason.status() == 401;
        let mut headers = vec![
            ("cache-control".into(), b"no-store".as_slice().into()),
            ("content-type".into(), b"application/json".as_slice().into()),
        ];
        let mut status = reason.status();
        if let Some(rule) = rule.filter(|rule| is_token && rule.accepts(Scheme::Bearer)) {
            let metadata = rule.metadata_parameter();
            let challenge = format!(
                "Bearer realm=\"{}\", error=\"invalid_token\"{metadata}",
                rule.audience()
            );
            headers.push(("www-authenticate".into(), Secret::new(challenge.into_bytes())));
        } else if is_token {
            // A 401 must carry a challenge (RFC 9110 §15.5.2).
            status = 403;
        } else {
            let seconds = config.map_or(5, |config| config.retry_after).to_string();
            headers.push(("retry-after".into(), Secret::new(seconds.into_bytes())));
        }
        let word = if is_token {
            "invalid_token"
        } else {
            "temporarily_unavailable"
        };
        LocalReply {
            status,
            headers,
            body: format!("{{\"error\":\"{word}\",\"request_id\":\"\"}}\n").into_bytes(),
            continuation: None,
            decision,
        }
    }
}
