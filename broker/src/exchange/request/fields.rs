//! Takes the parameters of a form: each once and within its bound, those that others may say where they may, and first what is said
//! of who asks.
//!
//! What the mesh says of the client is read whatever else is wrong: a log line about a refused request says who sent it. It opens
//! nothing. The address says whose failures are counted, the server name which certificate a ticket may be bound to; one that is odd
//! counts as not said.

use std::net::IpAddr;

use kerbridge_gate::certificate::CertificateDigest;
use kerbridge_gate::network::address_of;
use kerbridge_wire::exchange::parameter;
use zeroize::Zeroizing;

use super::super::form;
use super::super::target::Target;
use super::RequestError;
use crate::client_assertion::{Assertion, ClientClaim};
use crate::config::ListenerName;

/// Longest audience that is looked for, and so logged, in bytes.
const LONGEST_AUDIENCE: usize = 255;
/// A client's assertion of who it is, and what that is (RFC 7521 §4.2). On `public` only.
const CLIENT_ASSERTION: &str = "client_assertion";
const CLIENT_ASSERTION_TYPE: &str = "client_assertion_type";
/// Longest hint, in bytes.
const LONGEST_HINT: usize = 255;

/// What only the mesh may say, each 1 to 255 visible ASCII characters; anything else counts as not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// The client's address, as Envoy trusts it.
    pub source: Option<String>,
    /// The name by TLS server name indication.
    pub server_name: Option<String>,
    /// Envoy's request identifier.
    pub request_id: Option<String>,
    /// The name of the route that asked.
    pub route: Option<String>,
    /// The client's certificate.
    pub certificate: Option<CertificateDigest>,
}

impl Hints {
    /// The address in `source`, where it is one: Envoy's has a port behind it.
    pub(in crate::exchange) fn address(&self) -> Option<IpAddr> {
        address_of(self.source.as_deref()?.as_bytes())
    }
}

/// What each request has, whatever it wants: what the mesh says of the client, and what the client says of itself.
pub(super) fn read<T>(
    body: &[u8],
    listener: ListenerName,
    build: impl FnOnce(Form) -> Result<T, RequestError>,
) -> (Hints, ClientClaim, Result<T, RequestError>) {
    let Ok(fields) = form::fields(body) else {
        return (Hints::default(), ClientClaim::Nothing, Err(RequestError::Form));
    };
    let mut form = Form { fields };
    // Names first: taking a field away would hide that it stands there twice.
    let names = form.check_names(listener);
    let hints = match listener {
        ListenerName::Mesh => form.hints(),
        ListenerName::Public | ListenerName::Observe | ListenerName::Admin => Hints::default(),
    };
    match names.and_then(|()| form.take_client()) {
        Ok(claim) => (hints, claim, build(form)),
        Err(error) => (hints, ClientClaim::Nothing, Err(error)),
    }
}

/// What is looked for, and so logged.
pub(super) fn bounded(audience: Option<Zeroizing<String>>) -> Result<Option<String>, RequestError> {
    match audience {
        Some(audience) if audience.len() > LONGEST_AUDIENCE => Err(RequestError::LongAudience),
        Some(audience) => Ok(Some(audience.to_string())),
        None => Ok(None),
    }
}

/// A form whose names were looked at.
pub(super) struct Form {
    fields: Vec<form::Field>,
}

impl Form {
    fn check_names(&self, listener: ListenerName) -> Result<(), RequestError> {
        for (index, (name, _)) in self.fields.iter().enumerate() {
            match name.as_str() {
                parameter::SOURCE
                | parameter::SERVER_NAME
                | parameter::REQUEST_ID
                | parameter::ROUTE
                | parameter::CERTIFICATE
                | parameter::CONTINUATION
                    if listener != ListenerName::Mesh =>
                {
                    return Err(RequestError::NotHere);
                }
                // To ignore it would be to grant something else than was asked for.
                "actor_token" | "actor_token_type" => return Err(RequestError::NotHere),
                // Whoever sends a secret must not believe that it was checked.
                "client_secret" => return Err(RequestError::ClientSecret),
                CLIENT_ASSERTION | CLIENT_ASSERTION_TYPE if listener != ListenerName::Public => {
                    return Err(RequestError::NotHere);
                }
                // A later filter's parameters among them: what this broker does not know it cannot need.
                _ => {}
            }
            if self.fields.iter().take(index).any(|(earlier, _)| earlier == name) {
                return Err(match name.as_str() {
                    parameter::AUDIENCE | parameter::RESOURCE => RequestError::SeveralTargets,
                    _ => RequestError::Repeated,
                });
            }
        }
        Ok(())
    }

    pub(super) fn take(&mut self, wanted: &str) -> Result<Option<Zeroizing<String>>, RequestError> {
        let Some(mut bytes) = self.take_bytes(wanted) else {
            return Ok(None);
        };
        std::str::from_utf8(&bytes).map_err(|_| RequestError::Form)?;
        // Moved, not copied: each copy of a ticket is one more to wipe.
        let text = String::from_utf8(std::mem::take(&mut *bytes)).map_err(|_| RequestError::Form)?;
        Ok(Some(Zeroizing::new(text)))
    }

    pub(super) fn take_target(&mut self) -> Result<Target, RequestError> {
        let target = Target {
            audience: bounded(self.take(parameter::AUDIENCE)?)?,
            resource: bounded(self.take(parameter::RESOURCE)?)?,
        };
        if target.audience.is_none() && target.resource.is_none() {
            return Err(RequestError::NoAudience);
        }
        Ok(target)
    }

    /// What the client says of itself.
    fn take_client(&mut self) -> Result<ClientClaim, RequestError> {
        let client_id = self.take("client_id")?.map(|name| name.to_string());
        let (token, kind) = (self.take(CLIENT_ASSERTION)?, self.take(CLIENT_ASSERTION_TYPE)?);
        match (token, kind) {
            (None, None) => Ok(client_id.map_or(ClientClaim::Nothing, ClientClaim::Name)),
            (Some(token), Some(kind)) => Ok(ClientClaim::Assertion(Assertion {
                kind: kind.to_string(),
                token,
                client_id,
            })),
            (Some(_), None) | (None, Some(_)) => Err(RequestError::HalfAnAssertion),
        }
    }

    pub(super) fn has(&self, wanted: &str) -> bool {
        let mut fields = self.fields.iter();
        fields.any(|(name, value)| name == wanted && !value.is_empty())
    }

    fn take_bytes(&mut self, wanted: &str) -> Option<Zeroizing<Vec<u8>>> {
        let at = self
            .fields
            .iter()
            .position(|(name, value)| name == wanted && !value.is_empty())?;
        Some(self.fields.swap_remove(at).1)
    }

    fn hints(&mut self) -> Hints {
        let mut hint = |wanted| {
            self.take_bytes(wanted)
                .filter(|bytes| bytes.len() <= LONGEST_HINT && bytes.iter().all(u8::is_ascii_graphic))
                .and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
        };
        Hints {
            source: hint(parameter::SOURCE),
            server_name: hint(parameter::SERVER_NAME),
            request_id: hint(parameter::REQUEST_ID),
            route: hint(parameter::ROUTE),
            certificate: hint(parameter::CERTIFICATE).and_then(|text| text.parse().ok()),
        }
    }
}
