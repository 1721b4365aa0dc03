use super::*;
use crate::client_assertion::Assertion;

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
        ("&audience=orders", RequestError::SeveralTargets),
        ("&audience=", RequestError::SeveralTargets),
        (
            "&resource=https://a.test&resource=https://a.test",
            RequestError::SeveralTargets,
        ),
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
        ("&scope=a%09b", RequestError::Scope),
        ("&scope=a%0ab", RequestError::Scope),
        ("&scope=a%0db", RequestError::Scope),
        ("&scope=a%c2%a0b", RequestError::Scope),
        ("&scope=a%22b", RequestError::Scope),
        ("&scope=a%5cb", RequestError::Scope),
        ("&scope=a%7fb", RequestError::Scope),
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
    let read_one = |more: &str| read(more).map_err(drop).unwrap();
    let ClientClaim::Assertion(Assertion { kind, token, client_id }) = read_one(&format!("{whole}&client_id=cli"))
    else {
        panic!("no assertion");
    };
    assert_eq!(
        (kind.as_str(), token.as_str(), client_id.as_deref()),
        ("urn:x", "a.b.c", Some("cli"))
    );
    assert!(matches!(read_one(whole), ClientClaim::Assertion(_)));
    assert!(matches!(read_one("&client_id=cli"), ClientClaim::Name(name) if name == "cli"));
    for nothing in ["", "&client_assertion=", "&client_id="] {
        assert!(matches!(read_one(nothing), ClientClaim::Nothing), "{nothing}");
    }
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
