//! A gate with two issuers that know every algorithm, and tokens for it, good or forged.
//!
//! The issuers: `https://ours.test` is pinned to ES256, `https://foreign.test` to all others.

use std::cell::RefCell;
use std::rc::Rc;

use kerbridge_gate::header_map::HeaderMap;
use kerbridge_gate::{Config, Gate, Reason, RequestHead, Snapshot, Step, UnixTime};
use serde_json::{Value, json};

use crate::signer::Signer;

pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const FOREIGN: [&str; 6] = ["ES384", "RS256", "RS384", "RS512", "PS256", "EdDSA"];

fn now() -> UnixTime {
    UnixTime::from_seconds(NOW).unwrap()
}

/// A gate, and the keys of its two issuers, each named after its algorithm and for it only, and `any`, for all RSA ones.
pub(crate) struct World {
    pub(crate) ours: Signer,
    pub(crate) foreign: Signer,
    pub(crate) gate: RefCell<Gate>,
}

impl World {
    pub(crate) fn new() -> Self {
        let (ours, foreign) = (Signer::new(), Signer::new());
        let mut keys: Vec<Value> = FOREIGN.iter().map(|name| foreign.jwk_for(name, name)).collect();
        keys.push(foreign.jwk("RS256", "any"));
        keys.push(foreign.jwk_for("ES384", "same"));
        let world = Self {
            gate: Self::gate(&[ours.jwk("ES256", "ES256"), ours.jwk("ES256", "same")], &keys),
            ours,
            foreign,
        };
        // What follows would prove nothing if good tokens did not pass.
        assert_eq!(world.judge(&world.good("ES256")), None);
        for name in FOREIGN {
            assert_eq!(world.judge(&world.good(name)), None, "{name}");
        }
        world
    }

    pub(crate) fn gate(ours: &[Value], foreign: &[Value]) -> RefCell<Gate> {
        let jwks = |keys: &[Value]| json!({"inline": json!({"keys": keys}).to_string()});
        let config = json!({
            "issuers": [
                {"issuer": "https://ours.test", "jwks": jwks(ours)},
                {"issuer": "https://foreign.test", "jwks": jwks(foreign), "algorithms": FOREIGN,
                 "audiences": {"orders": []}},
            ],
            "broker": {"cluster": "broker", "issuer": "https://ours.test"},
            "routes": [{"name": "orders", "host": "api.test", "path": "/", "accept": ["bearer"], "audience": "orders"}],
        });
        let config = Rc::new(Config::parse(config.to_string().as_bytes()).unwrap());
        RefCell::new(Gate::new(Rc::new(Snapshot::new(config, now()))))
    }

    /// Why a token is refused; `None` if it passes.
    pub(crate) fn judge(&self, token: &str) -> Option<Reason> {
        let value = format!("Bearer {token}");
        let headers = HeaderMap::from_pairs([
            (b":method".as_slice(), b"GET".as_slice()),
            (b":path", b"/"),
            (b":authority", b"api.test"),
            (b"authorization", value.as_bytes()),
        ]);
        let head = RequestHead {
            headers: &headers,
            secure: true,
            source: None,
            certificate: None,
        };
        let mut step = self.gate.borrow_mut().admit(now(), &head);
        if let Step::Verify(input, pending) = step {
            let valid = input.verify();
            // Both ways agree on whatever comes this far.
            assert!(
                crate::host::verify(&input).is_none_or(|native| native == valid),
                "{token}"
            );
            step = pending.resume(&mut self.gate.borrow_mut(), now(), valid);
        }
        match step {
            Step::Continue(..) => None,
            Step::Respond(reply) => {
                let reason = reply.decision.reason;
                // What is not even one token, such as two words or a list, is a request that makes no sense.
                let no_token = matches!(reason, Reason::MalformedCredentials | Reason::MultipleCredentials);
                let status = if no_token { 400 } else { 401 };
                assert_eq!(reply.status, status, "{token}");
                Some(reason)
            }
            other => panic!("nothing is fetched or asked for a forged token: {other:?}"),
        }
    }

    pub(crate) fn signer(&self, algorithm: &str) -> &Signer {
        if algorithm == "ES256" {
            &self.ours
        } else {
            &self.foreign
        }
    }

    pub(crate) fn good(&self, algorithm: &str) -> String {
        let signer = self.signer(algorithm);
        signer.sign(algorithm, &header(algorithm, algorithm), &claims(algorithm))
    }

    /// Our token with another header, truly signed with ES256.
    pub(crate) fn with_header(&self, header: &str) -> String {
        self.ours.sign("ES256", header, &claims("ES256"))
    }

    /// A token of a JSON header with these members more.
    pub(crate) fn with_members(&self, more: &str) -> String {
        self.with_header(&format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"ES256",{more}}}"#))
    }
}

pub(crate) fn header(algorithm: &str, kid: &str) -> String {
    format!(r#"{{"alg":"{algorithm}","typ":"at+jwt","kid":"{kid}"}}"#)
}

/// Claims of the issuer that is pinned to this algorithm.
pub(crate) fn claims(algorithm: &str) -> String {
    let issuer = if algorithm == "ES256" { "ours" } else { "foreign" };
    format!(
        r#"{{"iss":"https://{issuer}.test","sub":"alice","aud":"orders","iat":{NOW},"exp":{},"jti":"j"}}"#,
        NOW + 60
    )
}
