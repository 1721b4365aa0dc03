//! Reads a token request (RFC 8693 §2.1): every parameter once, none that we do not know, each within its bound.

use kerbridge_wire::Reason;
use kerbridge_wire::exchange::{ACCESS_TOKEN_TYPE, GRANT_TYPE, NEGOTIATE_TOKEN_TYPE, parameter};
use zeroize::Zeroizing;

use super::form;
use crate::config::ListenerName;
use crate::policy::Scopes;

/// A request that is well-formed. Its subject token is not yet looked at.
pub struct ExchangeRequest {
    /// The base64 of the Negotiate header.
    pub(super) subject_token: Zeroizing<String>,
    /// The service for which a token is wanted.
    pub(super) audience: String,
    /// The scopes wanted; all that are granted where absent.
    pub(super) scope: Option<Scopes>,
    /// What the mesh says about the request behind this one, for the log.
    pub(super) hints: Hints,
}

/// What only the mesh may say, each at most 255 visible ASCII characters.
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
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The body is no form.
    Form,
    /// A parameter stands twice.
    Repeated,
    /// A parameter that we do not know, or one of `mesh` on another listener.
    Unknown,
    /// `grant_type` is missing.
    NoGrantType,
    /// Another grant type.
    GrantType,
    /// `subject_token` is missing.
    NoSubjectToken,
    /// `subject_token_type` is missing or another.
    SubjectTokenType,
    /// `requested_token_type` is another.
    RequestedTokenType,
    /// `audience` is missing.
    NoAudience,
    /// `scope` is no list of scopes.
    Scope,
    /// A parameter of the mesh holds what it should not.
    Hint,
}

impl RequestError {
    /// The word of the closed list.
    pub const fn reason(self) -> Reason {
        match self {
            Self::GrantType => Reason::UnsupportedGrantType,
            Self::Scope => Reason::InvalidScope,
            Self::Form
            | Self::Repeated
            | Self::Unknown
            | Self::NoGrantType
            | Self::NoSubjectToken
            | Self::SubjectTokenType
            | Self::RequestedTokenType
            | Self::NoAudience
            | Self::Hint => Reason::InvalidRequest,
        }
    }

    /// What to do about it.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Form => "send application/x-www-form-urlencoded in UTF-8",
            Self::Repeated => "send each parameter once",
            Self::Unknown => "send no other parameters than this endpoint has",
            Self::NoGrantType | Self::GrantType => "grant_type is urn:ietf:params:oauth:grant-type:token-exchange",
            Self::NoSubjectToken => "subject_token is the base64 of the Negotiate header",
            Self::SubjectTokenType => "subject_token_type is urn:kerbridge:token-type:negotiate",
            Self::RequestedTokenType => "requested_token_type is urn:ietf:params:oauth:token-type:access_token",
            Self::NoAudience => "audience names the service",
            Self::Scope => "scope is a list of scopes, separated by single spaces",
            Self::Hint => "source, server_name, request_id and route are at most 255 visible ASCII characters",
        }
    }
}

impl ExchangeRequest {
    /// Reads a form body that came through this listener.
    pub fn read(body: &[u8], listener: ListenerName) -> Result<Self, RequestError> {
        let mut form = Form {
            fields: form::fields(body).map_err(|form::NotAForm| RequestError::Form)?,
        };
        form.check_names(listener)?;
        match form.take(parameter::GRANT_TYPE) {
            None => return Err(RequestError::NoGrantType),
            Some(grant_type) if *grant_type != GRANT_TYPE => return Err(RequestError::GrantType),
            Some(_) => {}
        }
        match form.take(parameter::SUBJECT_TOKEN_TYPE) {
            Some(kind) if *kind == NEGOTIATE_TOKEN_TYPE => {}
            Some(_) | None => return Err(RequestError::SubjectTokenType),
        }
        match form.take(parameter::REQUESTED_TOKEN_TYPE) {
            Some(kind) if *kind != ACCESS_TOKEN_TYPE => return Err(RequestError::RequestedTokenType),
            Some(_) | None => {}
        }
        let scope = form.take(parameter::SCOPE).map(|text| text.parse()).transpose();
        Ok(Self {
            subject_token: form
                .take(parameter::SUBJECT_TOKEN)
                .ok_or(RequestError::NoSubjectToken)?,
            audience: form
                .take(parameter::AUDIENCE)
                .ok_or(RequestError::NoAudience)?
                .to_string(),
            scope: scope.map_err(|_| RequestError::Scope)?,
            hints: Hints {
                source: form.hint(parameter::SOURCE)?,
                server_name: form.hint(parameter::SERVER_NAME)?,
                request_id: form.hint(parameter::REQUEST_ID)?,
                route: form.hint(parameter::ROUTE)?,
            },
        })
    }
}

struct Form {
    fields: Vec<form::Field>,
}

impl Form {
    fn check_names(&self, listener: ListenerName) -> Result<(), RequestError> {
        for (index, (name, _)) in self.fields.iter().enumerate() {
            let known = match name.as_str() {
                parameter::GRANT_TYPE
                | parameter::SUBJECT_TOKEN
                | parameter::SUBJECT_TOKEN_TYPE
                | parameter::REQUESTED_TOKEN_TYPE
                | parameter::AUDIENCE
                | parameter::SCOPE => true,
                parameter::SOURCE | parameter::SERVER_NAME | parameter::REQUEST_ID | parameter::ROUTE => {
                    listener == ListenerName::Mesh
                }
                _ => false,
            };
            if !known {
                return Err(RequestError::Unknown);
            }
            if self.fields.iter().take(index).any(|(earlier, _)| earlier == name) {
                return Err(RequestError::Repeated);
            }
        }
        Ok(())
    }

    fn take(&mut self, wanted: &str) -> Option<Zeroizing<String>> {
        let at = self
            .fields
            .iter()
            .position(|(name, value)| name == wanted && !value.is_empty())?;
        Some(self.fields.swap_remove(at).1)
    }

    fn hint(&mut self, wanted: &str) -> Result<Option<String>, RequestError> {
        match self.take(wanted) {
            Some(text) if text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(Some(text.to_string()))
            }
            Some(_) => Err(RequestError::Hint),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=QQ%3D%3D\
        &subject_token_type=urn:kerbridge:token-type:negotiate&audience=orders";

    fn mesh(more: &str) -> Result<ExchangeRequest, RequestError> {
        ExchangeRequest::read(format!("{GOOD}{more}").as_bytes(), ListenerName::Mesh)
    }

    #[test]
    fn a_good_request_is_read() {
        let request = mesh("&scope=b+a&source=10.0.0.1&request_id=x-1&route=orders&server_name=")
            .map_err(drop)
            .unwrap();
        assert_eq!(*request.subject_token, "QQ==");
        assert_eq!(request.audience, "orders");
        assert_eq!(request.scope.unwrap().to_string(), "a b");
        assert_eq!(request.hints.source.as_deref(), Some("10.0.0.1"));
        assert_eq!(request.hints.server_name, None);
    }

    #[test]
    fn each_mistake_has_its_name() {
        for (more, error) in [
            ("&audience=billing", RequestError::Repeated),
            ("&scope=&scope=", RequestError::Repeated),
            ("&client_secret=x", RequestError::Unknown),
            ("&scope=a++b", RequestError::Scope),
            (
                "&requested_token_type=urn:kerbridge:token-type:negotiate",
                RequestError::RequestedTokenType,
            ),
            ("&source=a+b", RequestError::Hint),
            ("&route=%0a", RequestError::Hint),
            ("&route=%zz", RequestError::Form),
        ] {
            assert_eq!(mesh(more).err(), Some(error), "{more}");
        }
        let long = format!("&request_id={}", "x".repeat(256));
        assert_eq!(mesh(&long).err(), Some(RequestError::Hint));
    }

    #[test]
    fn what_must_be_there_must_be_there() {
        for (part, error) in [
            (
                "grant_type=urn:ietf:params:oauth:grant-type:token-exchange",
                RequestError::NoGrantType,
            ),
            ("subject_token=QQ%3D%3D", RequestError::NoSubjectToken),
            (
                "subject_token_type=urn:kerbridge:token-type:negotiate",
                RequestError::SubjectTokenType,
            ),
            ("audience=orders", RequestError::NoAudience),
        ] {
            let name = part.split('=').next().unwrap();
            for body in [GOOD.replace(part, ""), GOOD.replace(part, &format!("{name}="))] {
                assert_eq!(
                    ExchangeRequest::read(body.as_bytes(), ListenerName::Mesh).err(),
                    Some(error),
                    "{body}"
                );
            }
        }
        let other = GOOD.replace("token-exchange", "jwt-bearer");
        assert_eq!(
            ExchangeRequest::read(other.as_bytes(), ListenerName::Mesh).err(),
            Some(RequestError::GrantType)
        );
    }

    #[test]
    fn what_only_the_mesh_may_say_is_refused_elsewhere() {
        for name in ["source", "server_name", "request_id", "route"] {
            assert!(mesh(&format!("&{name}=x")).is_ok());
            let body = format!("{GOOD}&{name}=x");
            let read = ExchangeRequest::read(body.as_bytes(), ListenerName::Public);
            assert_eq!(read.err(), Some(RequestError::Unknown), "{name}");
        }
    }
}
