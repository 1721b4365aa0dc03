//! Finds where tokens for an address come from: the service says which broker (RFC 9728), the broker says where its endpoints are
//! (RFC 8414). Each document must be about what was asked, so that no host speaks for another.

use serde::Deserialize;

use super::address::Address;
use super::https::{Answer, Https, Question};
use super::trouble::{Kind, Trouble};

const RESOURCE: &str = "/.well-known/oauth-protected-resource";
const SERVER: &str = "/.well-known/oauth-authorization-server";

/// At so many places a service is asked at most.
const ASKED: usize = 8;

/// A service that takes tokens, as it says itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resource {
    /// Its address in its own spelling, which the broker is to be asked for.
    pub(super) name: String,
    /// The same, read.
    pub(super) address: Address,
    /// Who makes its tokens.
    pub(super) issuer: Issuer,
}

/// A broker by its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issuer {
    name: String,
    address: Address,
}

/// Where a broker's endpoints are.
#[derive(Debug)]
pub(super) struct Endpoints {
    pub(super) token: Address,
    pub(super) revocation: Option<Address>,
}

/// RFC 9728 §2.
#[derive(Deserialize)]
struct ResourceMetadata {
    resource: String,
    #[serde(default)]
    authorization_servers: Vec<String>,
}

/// RFC 8414 §2.
#[derive(Deserialize)]
struct ServerMetadata {
    issuer: String,
    token_endpoint: String,
    revocation_endpoint: Option<String>,
}

impl Issuer {
    /// Reads an issuer, which is compared as it is spelled.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let address = Address::parse(text).map_err(|error| error.to_string())?;
        Ok(Self {
            name: text.to_owned(),
            address,
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.name
    }
}

/// Asks a service where its tokens come from: by its challenge, otherwise at the places that its address and those above it have.
pub(super) fn resource(https: &Https, url: &Address) -> Result<Resource, Trouble> {
    let refused = https.connect(url)?.ask(&Question::Head)?;
    let named = refused.challenges.iter().find_map(|challenge| metadata_of(challenge));
    if let Some(named) = named {
        let place = Address::parse(&named).map_err(|error| not_described(url, &error.to_string()))?;
        // Another host would say where to take this one's tickets.
        if !place.is_same_origin(url) {
            return Err(not_described(url, "it refers to another host"));
        }
        let answer = https.connect(&place)?.ask(&Question::Get)?;
        return described(&answer, url);
    }
    for place in places(url) {
        let answer = https.connect(&place)?.ask(&Question::Get)?;
        if answer.status == 200 || answer.status >= 500 {
            return described(&answer, url);
        }
    }
    Err(not_described(url, "it has no metadata (RFC 9728)"))
}

/// Where metadata about an address may be, the longest first. Of a deep one those near the host's root: what lies deep is rather a
/// thing of the service than another service.
fn places(url: &Address) -> impl Iterator<Item = Address> {
    let above = url.and_above();
    let deeper = above.len().saturating_sub(ASKED);
    let places = above.into_iter().skip(deeper);
    places.map(|above| above.at(format!("{RESOURCE}{}", above.suffix())))
}

/// Asks a broker where its endpoints are.
pub(super) fn endpoints(https: &Https, issuer: &Issuer) -> Result<Endpoints, Trouble> {
    let Issuer { name, address } = issuer;
    let place = address.at(format!("{SERVER}{}", address.suffix().trim_end_matches('/')));
    let answer = https.connect(&place)?.ask(&Question::Get)?;
    let not = |why: &str| {
        Trouble::new(
            Kind::AnswerNotUnderstood,
            format!("{place} does not say where {name} gives tokens: {why}"),
            "check the issuer's address with whoever runs it",
        )
    };
    if answer.status >= 500 {
        return Err(unavailable(&place, answer.status));
    }
    if answer.status != 200 {
        return Err(not(&format!("the answer is {}", answer.status)));
    }
    let said: ServerMetadata = serde_json::from_slice(&answer.body).map_err(|error| not(&error.to_string()))?;
    if said.issuer != *name {
        return Err(not("it is another issuer's"));
    }
    let read = |text: &str| Address::parse(text).map_err(|error| not(&error.to_string()));
    Ok(Endpoints {
        token: read(&said.token_endpoint)?,
        revocation: said.revocation_endpoint.as_deref().map(read).transpose()?,
    })
}

fn described(answer: &Answer, url: &Address) -> Result<Resource, Trouble> {
    if answer.status >= 500 {
        return Err(unavailable(url, answer.status));
    }
    if answer.status != 200 {
        return Err(not_described(url, &format!("its metadata is {}", answer.status)));
    }
    let said: ResourceMetadata =
        serde_json::from_slice(&answer.body).map_err(|error| not_described(url, &error.to_string()))?;
    let address = Address::parse(&said.resource).map_err(|error| not_described(url, &error.to_string()))?;
    if !url.is_within(&address) {
        return Err(not_described(url, "its metadata is about another address"));
    }
    let issuer = said
        .authorization_servers
        .iter()
        .find_map(|name| Issuer::parse(name).ok());
    Ok(Resource {
        name: said.resource,
        address,
        issuer: issuer.ok_or_else(|| not_described(url, "its metadata names no broker"))?,
    })
}

fn unavailable(place: &Address, status: u16) -> Trouble {
    Trouble::new(
        Kind::BrokerUnavailable,
        format!("{place} cannot say now where tokens come from: the answer is {status}"),
        "try again in a moment",
    )
}

fn not_described(url: &Address, why: &str) -> Trouble {
    Trouble::new(
        Kind::NotDescribed,
        format!("{url} does not say where its tokens come from: {why}"),
        "name the broker and the service with --issuer URL --audience NAME, as whoever runs it says",
    )
}

/// The address in a challenge's `resource_metadata` (RFC 9728 §5.1).
fn metadata_of(challenge: &str) -> Option<String> {
    let (scheme, parameters) = challenge.trim_start().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (_, value) = parameters.split_once("resource_metadata=\"")?;
    let (value, _) = value.split_once('"')?;
    Some(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            challenges: Vec::new(),
            retry_after: None,
            body: body.into(),
        }
    }

    #[test]
    fn the_metadata_of_a_challenge_is_found() {
        let of = metadata_of;
        assert_eq!(
            of("Bearer realm=\"x\", resource_metadata=\"https://a/b\", error=\"y\"").as_deref(),
            Some("https://a/b")
        );
        for other in [
            "Negotiate",
            "Bearer realm=\"x\"",
            "Basic resource_metadata=\"https://a\"",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn few_places_are_asked_and_the_hosts_own_is_the_last() {
        let of = |url: &str| {
            let url = Address::parse(url).unwrap();
            places(&url).map(|place| place.path().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            of("https://a/x/y"),
            [
                "/.well-known/oauth-protected-resource/x/y",
                "/.well-known/oauth-protected-resource/x",
                "/.well-known/oauth-protected-resource",
            ]
        );
        let deep = of("https://a/1/2/3/4/5/6/7/8/9");
        assert_eq!(deep.len(), ASKED);
        assert_eq!(
            deep.first().unwrap(),
            "/.well-known/oauth-protected-resource/1/2/3/4/5/6/7"
        );
        assert_eq!(deep.last().unwrap(), RESOURCE);
    }

    #[test]
    fn a_document_counts_for_the_address_that_was_asked_alone() {
        let url = Address::parse("https://api.example.com/orders/1").unwrap();
        let read = |body: &str| described(&answer(200, body), &url).map(|resource| resource.name);
        let good = r#"{"resource":"https://API.example.com/orders","authorization_servers":["http://no","https://b"]}"#;
        assert_eq!(read(good).unwrap(), "https://API.example.com/orders");
        for (body, why) in [
            (r#"{"resource":"https://api.example.com/orders"}"#, "names no broker"),
            (
                r#"{"resource":"https://evil.example.com/orders","authorization_servers":["https://b"]}"#,
                "another address",
            ),
            (
                r#"{"resource":"https://api.example.com/order","authorization_servers":["https://b"]}"#,
                "another address",
            ),
            ("{}", "missing field"),
        ] {
            let trouble = read(body).unwrap_err();
            assert_eq!(trouble.kind, Kind::NotDescribed);
            assert!(trouble.problem.contains(why), "{trouble}");
        }
        assert!(described(&answer(404, good), &url).is_err());
        assert!(described(&answer(503, good), &url).unwrap_err().is_passing());
    }
}
