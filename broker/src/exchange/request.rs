//! Reads a token request (RFC 8693 §2.1): every parameter once, each within its bound; one that nobody knows is ignored
//! (RFC 6749 §3.2), one that would change what is asked for is not.
//!
//! What the mesh says of the client is read first: a log line about a refused request says who sent it. It opens nothing. The
//! address says whose failures are counted, the server name which certificate a ticket may be bound to; one that is odd
//! counts as not said.

use std::net::IpAddr;

use kerbridge_gate::certificate::CertificateDigest;
use kerbridge_gate::network::address_of;
use kerbridge_wire::Reason;
use kerbridge_wire::exchange::{
    ACCESS_TOKEN_TYPE, GRANT_TYPE, ID_TOKEN_TYPE, JWT_TYPE, LOGOUT_TOKENS, NEGOTIATE_TOKEN_TYPE, parameter,
};
use zeroize::Zeroizing;

use super::form;
use super::target::Target;
use crate::client_assertion::Assertion;
use crate::config::ListenerName;
use crate::policy::Scopes;

/// A request that is well-formed. Its subject token is not yet looked at.
pub enum ExchangeRequest {
    /// A ticket for a token.
    ToToken(ToToken),
    /// A token for a ticket.
    ToTicket(ToTicket),
    /// A token for another token.
    Trade(Trade),
}

/// A request for a token.
pub struct ToToken {
    /// The base64 of the Negotiate header.
    pub(super) subject_token: Zeroizing<String>,
    /// The handle of the handshake whose second leg it is.
    pub(super) continuation: Option<Zeroizing<String>>,
    /// The service for which a token is wanted.
    pub(super) target: Target,
    /// The scopes wanted; all that are granted where absent.
    pub(super) scope: Option<Scopes>,
}

/// A request for a token of another audience.
pub struct Trade {
    /// The token that is shown.
    pub(super) subject_token: Zeroizing<String>,
    /// The service for which a token is wanted.
    pub(super) target: Target,
    /// The scopes wanted; all that are left where absent.
    pub(super) scope: Option<Scopes>,
}

/// A request for a ticket.
pub struct ToTicket {
    /// The token of who is to be acted for.
    pub(super) subject_token: Zeroizing<String>,
    /// The service, by its principal.
    pub(super) target: String,
}

/// A request to say what a token says (RFC 7662 §2.1).
pub(super) struct IntrospectionRequest {
    /// The token.
    pub(super) token: Zeroizing<String>,
}

/// A request to take a token back.
pub(super) struct RevocationRequest {
    pub(super) token: Zeroizing<String>,
}

/// A request to end sessions.
pub(super) struct LogoutRequest {
    /// Tokens of them, 1 to [`LOGOUT_TOKENS`].
    pub(super) tokens: Vec<Zeroizing<String>>,
}

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
    pub(super) fn address(&self) -> Option<IpAddr> {
        address_of(self.source.as_deref()?.as_bytes())
    }
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The body is no form.
    Form,
    /// A parameter stands twice.
    Repeated,
    /// A parameter that would change what is asked for and is not taken here, or one of `mesh` on another listener.
    NotHere,
    /// `resource` for a ticket, whose service is known by its principal only.
    Resource,
    /// More than one `audience` or `resource`: a token is for exactly one service.
    SeveralTargets,
    /// `grant_type` is missing.
    NoGrantType,
    /// Another grant type.
    GrantType,
    /// `subject_token` is missing.
    NoSubjectToken,
    /// `subject_token_type` is missing or another.
    SubjectTokenType,
    /// `subject_token_type` is missing or another where a ticket is wanted, which only an access token is traded for.
    SubjectTokenTypeOfTicket,
    /// `requested_token_type` is another.
    RequestedTokenType,
    /// `audience` is missing, and so is `resource`.
    NoAudience,
    /// `audience` or `resource` is longer than any.
    LongAudience,
    /// `scope` is no list of scopes.
    Scope,
    /// `scope` or `continuation`, which a ticket in a user's name has not.
    NotForTickets,
    /// `continuation`, which only a handshake has.
    NoHandshake,
    /// The broker does not trade in this direction.
    Direction,
    /// `token` is missing, at introspection.
    NoToken,
    /// `tokens` are none, or too many, at a logout.
    Tokens,
    /// `client_secret`, of which there are none.
    ClientSecret,
    /// One of `client_assertion` and `client_assertion_type` without the other.
    HalfAnAssertion,
}

impl RequestError {
    /// The word of the closed list.
    pub const fn reason(self) -> Reason {
        match self {
            Self::GrantType => Reason::UnsupportedGrantType,
            Self::LongAudience | Self::Resource | Self::SeveralTargets => Reason::InvalidTarget,
            Self::Scope => Reason::InvalidScope,
            Self::ClientSecret => Reason::ClientUnauthenticated,
            Self::HalfAnAssertion
            | Self::NoToken
            | Self::Tokens
            | Self::Form
            | Self::Repeated
            | Self::NotHere
            | Self::NoGrantType
            | Self::NoSubjectToken
            | Self::SubjectTokenType
            | Self::SubjectTokenTypeOfTicket
            | Self::RequestedTokenType
            | Self::NotForTickets
            | Self::NoHandshake
            | Self::Direction
            | Self::NoAudience => Reason::InvalidRequest,
        }
    }

    /// What to do about it.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Form => "send application/x-www-form-urlencoded in UTF-8",
            Self::Repeated => "send each parameter once",
            Self::NotHere => {
                "leave out actor_token, on mesh client_assertion, and on public what only the mesh may say"
            }
            Self::Resource => "name the service of a ticket by audience, not by resource",
            Self::SeveralTargets => "name one service: a token has exactly one audience",
            Self::NoGrantType | Self::GrantType => "grant_type is urn:ietf:params:oauth:grant-type:token-exchange",
            Self::NoSubjectToken => "subject_token is the base64 of the Negotiate header, or a token",
            Self::SubjectTokenType => {
                "subject_token_type is urn:kerbridge:token-type:negotiate or urn:ietf:params:oauth:token-type:access_token"
            }
            Self::SubjectTokenTypeOfTicket => {
                "subject_token_type is urn:ietf:params:oauth:token-type:access_token where a ticket is wanted"
            }
            Self::RequestedTokenType => "requested_token_type is urn:ietf:params:oauth:token-type:access_token",
            Self::NotForTickets => "leave out scope and continuation: a ticket has neither",
            Self::NoHandshake => "leave out continuation: it belongs to a handshake",
            Self::Direction => "this broker does not trade that for this: see [delegation] and [[kerberos.acceptor]]",
            Self::NoAudience => "audience names the service, or resource its address",
            Self::ClientSecret => "no client has a secret: authenticate by certificate or private_key_jwt",
            Self::NoToken => "token is the token that it is about",
            Self::Tokens => "tokens are 1 to 256 tokens, separated by single spaces",
            Self::HalfAnAssertion => "client_assertion and client_assertion_type go together",
            Self::LongAudience => "audience and resource are at most 255 bytes long",
            Self::Scope => "scope is a list of scopes, separated by single spaces",
        }
    }
}

impl ExchangeRequest {
    /// Reads a form body that came through this listener: what the mesh says of the client, what the client says of itself, and
    /// what it wants. The first two are there for a bad request too, unless it is no form.
    pub fn read(body: &[u8], listener: ListenerName) -> (Hints, Option<Assertion>, Result<Self, RequestError>) {
        read(body, listener, Self::build)
    }

    fn build(mut form: Form) -> Result<Self, RequestError> {
        match form.take(parameter::GRANT_TYPE)? {
            None => return Err(RequestError::NoGrantType),
            Some(grant_type) if *grant_type != GRANT_TYPE => return Err(RequestError::GrantType),
            Some(_) => {}
        }
        let shown = form.take(parameter::SUBJECT_TOKEN_TYPE)?;
        let wanted = form.take(parameter::REQUESTED_TOKEN_TYPE)?;
        let wanted = wanted.as_ref().map_or(ACCESS_TOKEN_TYPE, |kind| kind.as_str());
        match (shown.as_ref().map(|kind| kind.as_str()), wanted) {
            (Some(NEGOTIATE_TOKEN_TYPE), ACCESS_TOKEN_TYPE) => ToToken::build(form).map(Self::ToToken),
            (Some(ACCESS_TOKEN_TYPE), NEGOTIATE_TOKEN_TYPE) => ToTicket::build(form).map(Self::ToTicket),
            // What it is called changes nothing: `typ` decides, by what its issuer may write.
            (Some(ACCESS_TOKEN_TYPE | JWT_TYPE | ID_TOKEN_TYPE), ACCESS_TOKEN_TYPE) => {
                Trade::build(form).map(Self::Trade)
            }
            (Some(NEGOTIATE_TOKEN_TYPE | ACCESS_TOKEN_TYPE), _) => Err(RequestError::RequestedTokenType),
            (Some(_) | None, NEGOTIATE_TOKEN_TYPE) => Err(RequestError::SubjectTokenTypeOfTicket),
            (Some(_) | None, _) => Err(RequestError::SubjectTokenType),
        }
    }
}

impl ToToken {
    fn build(mut form: Form) -> Result<Self, RequestError> {
        let scope = form.take(parameter::SCOPE)?.map(|text| text.parse()).transpose();
        let subject_token = form.take(parameter::SUBJECT_TOKEN)?;
        let continuation = form.take(parameter::CONTINUATION)?;
        Ok(Self {
            subject_token: subject_token.ok_or(RequestError::NoSubjectToken)?,
            continuation,
            target: form.take_target()?,
            scope: scope.map_err(|_| RequestError::Scope)?,
        })
    }
}

impl Trade {
    fn build(mut form: Form) -> Result<Self, RequestError> {
        if form.has(parameter::CONTINUATION) {
            return Err(RequestError::NoHandshake);
        }
        let scope = form.take(parameter::SCOPE)?.map(|text| text.parse()).transpose();
        let subject_token = form.take(parameter::SUBJECT_TOKEN)?;
        Ok(Self {
            subject_token: subject_token.ok_or(RequestError::NoSubjectToken)?,
            target: form.take_target()?,
            scope: scope.map_err(|_| RequestError::Scope)?,
        })
    }
}

impl ToTicket {
    fn build(mut form: Form) -> Result<Self, RequestError> {
        if form.has(parameter::SCOPE) || form.has(parameter::CONTINUATION) {
            return Err(RequestError::NotForTickets);
        }
        if form.has(parameter::RESOURCE) {
            return Err(RequestError::Resource);
        }
        let subject_token = form.take(parameter::SUBJECT_TOKEN)?;
        let audience = form.take(parameter::AUDIENCE)?;
        Ok(Self {
            subject_token: subject_token.ok_or(RequestError::NoSubjectToken)?,
            target: bounded(audience)?.ok_or(RequestError::NoAudience)?,
        })
    }
}

impl IntrospectionRequest {
    /// Reads a form body that came through this listener. `token_type_hint` and what nobody knows are ignored.
    pub(super) fn read(body: &[u8], listener: ListenerName) -> (Option<Assertion>, Result<Self, RequestError>) {
        let (_, assertion, token) = read(body, listener, token_of);
        (assertion, token.map(|token| Self { token }))
    }
}

impl RevocationRequest {
    /// Reads a form body that came through this listener, as [`ExchangeRequest::read`] does. `token_type_hint` and what nobody
    /// knows are ignored (RFC 7009 §2.1).
    pub(super) fn read(body: &[u8], listener: ListenerName) -> (Hints, Option<Assertion>, Result<Self, RequestError>) {
        let (hints, assertion, token) = read(body, listener, token_of);
        (hints, assertion, token.map(|token| Self { token }))
    }
}

impl LogoutRequest {
    /// Reads a form body that came through this listener. Who asks is known by the connection.
    pub(super) fn read(body: &[u8], listener: ListenerName) -> (Hints, Result<Self, RequestError>) {
        let (hints, _, request) = read(body, listener, |mut form| {
            let tokens = form.take(parameter::TOKENS)?.ok_or(RequestError::Tokens)?;
            let tokens: Vec<_> = tokens
                .split(' ')
                .map(|token| Zeroizing::new(token.to_owned()))
                .collect();
            let fit = tokens.len() <= LOGOUT_TOKENS && tokens.iter().all(|token| !token.is_empty());
            if fit {
                Ok(Self { tokens })
            } else {
                Err(RequestError::Tokens)
            }
        });
        (hints, request)
    }
}

/// What each request has, whatever it wants: what the mesh says of the client, and what the client says of itself.
fn read<T>(
    body: &[u8],
    listener: ListenerName,
    build: impl FnOnce(Form) -> Result<T, RequestError>,
) -> (Hints, Option<Assertion>, Result<T, RequestError>) {
    let Ok(fields) = form::fields(body) else {
        return (Hints::default(), None, Err(RequestError::Form));
    };
    let mut form = Form { fields };
    // Names first: taking a field away would hide that it stands there twice.
    let names = form.check_names(listener);
    let hints = match listener {
        ListenerName::Mesh => form.hints(),
        ListenerName::Public | ListenerName::Observe | ListenerName::Admin => Hints::default(),
    };
    match names.and_then(|()| form.take_assertion()) {
        Ok(assertion) => (hints, assertion, build(form)),
        Err(error) => (hints, None, Err(error)),
    }
}

fn token_of(mut form: Form) -> Result<Zeroizing<String>, RequestError> {
    form.take("token")?.ok_or(RequestError::NoToken)
}

fn bounded(audience: Option<Zeroizing<String>>) -> Result<Option<String>, RequestError> {
    match audience {
        Some(audience) if audience.len() > LONGEST_AUDIENCE => Err(RequestError::LongAudience),
        Some(audience) => Ok(Some(audience.to_string())),
        None => Ok(None),
    }
}

struct Form {
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

    fn take(&mut self, wanted: &str) -> Result<Option<Zeroizing<String>>, RequestError> {
        let Some(mut bytes) = self.take_bytes(wanted) else {
            return Ok(None);
        };
        std::str::from_utf8(&bytes).map_err(|_| RequestError::Form)?;
        // Moved, not copied: each copy of a ticket is one more to wipe.
        let text = String::from_utf8(std::mem::take(&mut *bytes)).map_err(|_| RequestError::Form)?;
        Ok(Some(Zeroizing::new(text)))
    }

    fn take_target(&mut self) -> Result<Target, RequestError> {
        let target = Target {
            audience: bounded(self.take(parameter::AUDIENCE)?)?,
            resource: bounded(self.take(parameter::RESOURCE)?)?,
        };
        if target.audience.is_none() && target.resource.is_none() {
            return Err(RequestError::NoAudience);
        }
        Ok(target)
    }

    /// What the client says of itself; nothing where it says at most its name, which proves nothing.
    fn take_assertion(&mut self) -> Result<Option<Assertion>, RequestError> {
        let (token, kind) = (self.take(CLIENT_ASSERTION)?, self.take(CLIENT_ASSERTION_TYPE)?);
        match (token, kind) {
            (None, None) => Ok(None),
            (Some(token), Some(kind)) => Ok(Some(Assertion {
                kind: kind.to_string(),
                token,
                client_id: self.take("client_id")?.map(|name| name.to_string()),
            })),
            (Some(_), None) | (None, Some(_)) => Err(RequestError::HalfAnAssertion),
        }
    }

    fn has(&self, wanted: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=QQ%3D%3D\
        &subject_token_type=urn:kerbridge:token-type:negotiate&audience=orders";

    fn read(body: &str) -> Result<ToToken, RequestError> {
        match ExchangeRequest::read(body.as_bytes(), ListenerName::Mesh).2? {
            ExchangeRequest::ToToken(request) => Ok(request),
            ExchangeRequest::ToTicket(request) => panic!("a ticket for {}", request.target),
            ExchangeRequest::Trade(request) => panic!("a trade for {:?}", request.target),
        }
    }

    fn mesh(more: &str) -> Result<ToToken, RequestError> {
        read(&format!("{GOOD}{more}"))
    }

    #[test]
    fn a_good_request_is_read() {
        let body = format!("{GOOD}&scope=b+a&source=10.0.0.1&request_id=x-1&route=orders&server_name=");
        let (hints, _, _) = ExchangeRequest::read(body.as_bytes(), ListenerName::Mesh);
        let request = read(&body).map_err(drop).unwrap();
        assert_eq!(*request.subject_token, "QQ==");
        assert_eq!(request.target.as_str(), "orders");
        assert_eq!(request.scope.unwrap().to_string(), "a b");
        assert_eq!(hints.source.as_deref(), Some("10.0.0.1"));
        assert_eq!(hints.server_name, None);
    }

    #[test]
    fn what_nobody_knows_is_ignored_as_the_rfc_wants_it() {
        // OAuth libraries send `client_id`; a later filter may have more to say.
        let request = mesh("&client_id=cli&said_by_a_later_filter=1").map_err(drop).unwrap();
        assert_eq!(request.target.as_str(), "orders");
    }

    #[test]
    fn each_mistake_has_its_name() {
        for (more, error) in [
            ("&audience=billing", RequestError::SeveralTargets),
            (
                "&resource=https://a.test&resource=https://b.test",
                RequestError::SeveralTargets,
            ),
            ("&scope=&scope=", RequestError::Repeated),
            ("&client_secret=x", RequestError::ClientSecret),
            ("&client_assertion=x", RequestError::NotHere),
            ("&actor_token=x", RequestError::NotHere),
            ("&later=a&later=b", RequestError::Repeated),
            ("&scope=a++b", RequestError::Scope),
            (
                "&requested_token_type=urn:kerbridge:token-type:negotiate",
                RequestError::RequestedTokenType,
            ),
            ("&source=a&source=a", RequestError::Repeated),
            ("&scope=%ff", RequestError::Form),
            ("&route=%zz", RequestError::Form),
        ] {
            assert_eq!(mesh(more).err(), Some(error), "{more}");
        }
        let audience = |length: usize| GOOD.replace("orders", &"x".repeat(length));
        assert_eq!(read(&audience(255)).err(), None);
        assert_eq!(read(&audience(256)).err(), Some(RequestError::LongAudience));
    }

    #[test]
    fn a_token_is_traded_for_a_ticket_where_both_types_say_so() {
        let good = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=a.b.c\
            &subject_token_type=urn:ietf:params:oauth:token-type:access_token\
            &requested_token_type=urn:kerbridge:token-type:negotiate&audience=HTTP%2Flegacy.test%40A.TEST";
        let read = |body: &str| ExchangeRequest::read(body.as_bytes(), ListenerName::Mesh).2;
        match read(good).map_err(drop).unwrap() {
            ExchangeRequest::ToTicket(ToTicket { subject_token, target }) => {
                assert_eq!(
                    (subject_token.as_str(), target.as_str()),
                    ("a.b.c", "HTTP/legacy.test@A.TEST")
                );
            }
            ExchangeRequest::ToToken(_) | ExchangeRequest::Trade(_) => panic!("a token"),
        }
        for (from, to, error) in [
            (
                "requested_token_type=urn:kerbridge:token-type:negotiate",
                "requested_token_type=urn:ietf:params:oauth:token-type:saml2",
                RequestError::RequestedTokenType,
            ),
            ("a.b.c", "a.b.c&resource=https://legacy.test", RequestError::Resource),
            (
                "token-type:access_token",
                "token-type:id_token",
                RequestError::SubjectTokenTypeOfTicket,
            ),
            (
                "&subject_token_type=urn:ietf:params:oauth:token-type:access_token",
                "",
                RequestError::SubjectTokenTypeOfTicket,
            ),
            ("a.b.c", "", RequestError::NoSubjectToken),
            ("&audience=HTTP%2Flegacy.test%40A.TEST", "", RequestError::NoAudience),
            ("a.b.c", "a.b.c&scope=read", RequestError::NotForTickets),
            ("a.b.c", "a.b.c&continuation=x", RequestError::NotForTickets),
        ] {
            assert_eq!(read(&good.replace(from, to)).err(), Some(error), "{from} -> {to}");
        }
        // No ticket is traded for a ticket, and nobody is sent that way.
        assert!(
            !RequestError::SubjectTokenTypeOfTicket
                .advice()
                .contains(NEGOTIATE_TOKEN_TYPE)
        );
    }

    #[test]
    fn a_token_is_traded_for_another_under_each_name_that_it_may_have() {
        let good = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=a.b.c\
            &subject_token_type=urn:ietf:params:oauth:token-type:access_token&audience=billing&scope=read";
        let read = |body: &str| ExchangeRequest::read(body.as_bytes(), ListenerName::Public).2;
        for kind in ["access_token", "jwt", "id_token"] {
            match read(&good.replace(":access_token", &format!(":{kind}")))
                .map_err(drop)
                .unwrap()
            {
                ExchangeRequest::Trade(request) => {
                    assert_eq!(
                        (request.subject_token.as_str(), request.target.as_str()),
                        ("a.b.c", "billing")
                    );
                    assert_eq!(request.scope.unwrap().to_string(), "read");
                }
                ExchangeRequest::ToToken(_) | ExchangeRequest::ToTicket(_) => panic!("{kind}"),
            }
        }
        for (from, to, error) in [
            (":access_token", ":refresh_token", RequestError::SubjectTokenType),
            ("a.b.c", "", RequestError::NoSubjectToken),
            ("&audience=billing", "", RequestError::NoAudience),
            ("&scope=read", "&scope=a++b", RequestError::Scope),
        ] {
            assert_eq!(read(&good.replace(from, to)).err(), Some(error), "{from} -> {to}");
        }
        let mesh = format!("{good}&continuation=x");
        let (_, _, request) = ExchangeRequest::read(mesh.as_bytes(), ListenerName::Mesh);
        assert_eq!(request.err(), Some(RequestError::NoHandshake));
    }

    #[test]
    fn an_odd_hint_is_dropped_and_the_request_is_read() {
        let long = format!("&request_id={}", "x".repeat(256));
        for odd in [
            "&server_name=a+b",
            "&route=%0a",
            "&source=%ff%fe",
            "&server_name=%c3%a9",
            &long,
        ] {
            let body = format!("{GOOD}{odd}");
            let (hints, _, request) = ExchangeRequest::read(body.as_bytes(), ListenerName::Mesh);
            assert_eq!((hints, request.err()), (Hints::default(), None), "{odd}");
        }
        let (hints, _, _) = ExchangeRequest::read(format!("{GOOD}{long}&route=orders").as_bytes(), ListenerName::Mesh);
        assert_eq!((hints.request_id, hints.route.as_deref()), (None, Some("orders")));
    }

    #[test]
    fn a_bad_request_still_says_where_it_came_from() {
        for bad in [format!("{GOOD}&actor_token=x"), "grant_type=password".into()] {
            let body = format!("{bad}&request_id=r-1&source=10.0.0.1");
            let (hints, _, request) = ExchangeRequest::read(body.as_bytes(), ListenerName::Mesh);
            assert!(request.is_err());
            assert_eq!(
                (hints.request_id.as_deref(), hints.source.as_deref()),
                (Some("r-1"), Some("10.0.0.1"))
            );
            let (hints, _, _) = ExchangeRequest::read(body.as_bytes(), ListenerName::Public);
            assert_eq!(hints, Hints::default());
        }
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
                assert_eq!(read(&body).err(), Some(error), "{body}");
            }
        }
        let other = GOOD.replace("token-exchange", "jwt-bearer");
        assert_eq!(read(&other).err(), Some(RequestError::GrantType));
    }

    #[test]
    fn a_client_of_public_may_say_who_it_is_and_says_it_whole() {
        let read = |more: &str| {
            let body = format!("{GOOD}{more}");
            let (_, assertion, request) = ExchangeRequest::read(body.as_bytes(), ListenerName::Public);
            request.map(|_| assertion)
        };
        let whole = "&client_assertion_type=urn:x&client_assertion=a.b.c";
        let Some(Assertion { kind, token, client_id }) = read(&format!("{whole}&client_id=cli")).map_err(drop).unwrap()
        else {
            panic!("no assertion");
        };
        assert_eq!(
            (kind.as_str(), token.as_str(), client_id.as_deref()),
            ("urn:x", "a.b.c", Some("cli"))
        );
        assert!(read(whole).map_err(drop).unwrap().is_some());
        assert!(read("&client_id=cli").map_err(drop).unwrap().is_none());
        assert!(read("&client_assertion=").map_err(drop).unwrap().is_none());
        for half in ["&client_assertion=a.b.c", "&client_assertion_type=urn:x"] {
            assert_eq!(read(half).err(), Some(RequestError::HalfAnAssertion), "{half}");
        }
        assert_eq!(
            read(&format!("{whole}&client_assertion=a.b.c")).err(),
            Some(RequestError::Repeated)
        );
    }

    #[test]
    fn what_only_the_mesh_may_say_is_refused_elsewhere() {
        for name in ["source", "server_name", "request_id", "route", "continuation"] {
            assert!(mesh(&format!("&{name}=x")).is_ok());
            let body = format!("{GOOD}&{name}=x");
            let (_, _, request) = ExchangeRequest::read(body.as_bytes(), ListenerName::Public);
            assert_eq!(request.err(), Some(RequestError::NotHere), "{name}");
        }
    }
}
