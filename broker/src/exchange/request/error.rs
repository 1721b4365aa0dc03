//! Says what is wrong with a request: the word for it, and what to do about it.

use kerbridge_wire::Reason;

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
