//! Tells the story: two users with tickets, a token alone, what is refused, a service that takes Kerberos only, and what
//! happens while the broker is away.

use kerbridge_tests::curl::{Answer, Curl};
use kerbridge_tests::engine::capture::{mask, masked};
use kerbridge_tests::relay::Recorded;
use kerbridge_tests::scripted_server::Incoming;
use kerbridge_tests::token::{self, Decoded};
use kerbridge_tests::{HarnessError, World};
use serde_json::Value;

use super::leg::Leg;
use super::{circle, refusals};
use crate::screen::{Screen, Tone};

/// Who is behind Envoy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    /// The service that knows nothing of Kerberos.
    Service,
    /// The one that takes nothing else.
    Apache,
}

impl Behind {
    const fn route(self) -> &'static str {
        match self {
            Self::Service => "Envoy -> service",
            Self::Apache => "Envoy -> Apache",
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Service => "the service",
            Self::Apache => "Apache",
        }
    }
}

/// What one request did at every place.
pub(crate) struct Seen {
    /// Who is there at its end.
    pub(crate) behind: Behind,
    /// What the client got.
    pub(crate) answer: Answer,
    /// The exchanges with the broker: none for a token, two where a ticket becomes a token and that a ticket.
    pub(crate) exchanges: Vec<Recorded>,
    /// What the service received, if anything.
    pub(crate) received: Option<Incoming>,
}

impl Seen {
    /// All values of a header that the service received.
    pub(crate) fn received(&self, name: &str) -> Vec<String> {
        let values = self.received.iter().flat_map(|received| received.all(name));
        values
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .collect()
    }
}

/// How much of the calls to the broker is shown; the capture has all of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Every parameter of the last one.
    Full,
    /// That there were some.
    Brief,
}

/// Sends a request, shows the command and every leg.
pub(crate) fn send(screen: &mut Screen, world: &World, detail: Detail, request: &Curl) -> Result<Seen, HarnessError> {
    let exchanges = exchanges(world).len();
    let requests = world.upstream().requests().len();
    let answer = request.send()?;
    let seen = Seen {
        behind: Behind::Service,
        exchanges: self::exchanges(world).into_iter().skip(exchanges).collect(),
        received: world.upstream().requests().into_iter().nth(requests),
        answer,
    };
    show(screen, world, detail, request, &seen);
    Ok(seen)
}

/// Shows the command and every leg.
pub(crate) fn show(screen: &mut Screen, world: &World, detail: Detail, request: &Curl, seen: &Seen) {
    show_command(screen, world, request);
    Leg::request(&seen.answer).show(screen);
    for (left, exchange) in (0..seen.exchanges.len()).rev().zip(&seen.exchanges) {
        let (call, reply) = (Leg::call(exchange), Leg::reply(exchange));
        if detail == Detail::Full && left == 0 {
            call.show(screen);
            reply.show(screen);
        } else {
            call.show_brief(screen);
            reply.show_brief(screen);
        }
    }
    Leg::service(seen.behind.route(), seen.received.as_ref()).show(screen);
    Leg::response(&seen.answer).show(screen);
}

/// The command as a person would type it.
pub(crate) fn show_command(screen: &mut Screen, world: &World, request: &Curl) {
    let authority = world.certificates().authority.display().to_string();
    let apache = world.apache().map(kerbridge_tests::apache::Apache::https);
    let places: Vec<(String, &str)> = [(world.url(""), "$URL")]
        .into_iter()
        .chain(apache.map(|apache| (apache, "$APACHE")))
        .collect();
    let command = for_pasting(&request.command_line(), &authority, &places);
    screen.line(&[(Tone::Faint, "    $ "), (Tone::Plain, &command)]);
}

/// The line with `CA`, `TOKEN` and names of `places` for what ends with this run, so that it can be pasted where `make lab-up`
/// is.
fn for_pasting(line: &str, authority: &str, places: &[(String, &str)]) -> String {
    let line = line.replace(&format!("--cacert {authority} "), "--cacert \"$CA\" ");
    let line = places.iter().fold(line, |line, (url, name)| line.replace(url, name));
    let token = line
        .split_once("'Authorization: Bearer ")
        .and_then(|(before, rest)| Some((before, rest.split_once('\'')?.1)));
    match token {
        Some((before, after)) => format!("{before}\"Authorization: Bearer $TOKEN\"{after}"),
        None => line,
    }
}

/// All exchanges with the broker so far.
pub(crate) fn exchanges(world: &World) -> Vec<Recorded> {
    let mut recorded = world
        .relay()
        .map(kerbridge_tests::relay::Relay::recorded)
        .unwrap_or_default();
    recorded.retain(|recorded| recorded.call.line.starts_with("POST /oauth2/token "));
    recorded
}

/// The tokens that the first two steps brought.
struct Tokens {
    alice: String,
    bob: String,
}

/// All steps, in order.
pub(crate) fn tell(screen: &mut Screen, world: &mut World) -> Result<(), HarnessError> {
    screen.chapter("From ticket to token");
    let tokens = tickets(screen, world)?;
    token_alone(screen, world, &tokens.alice)?;
    screen.chapter("What does not get in");
    refusals::tell(screen, world, &tokens.alice, &tokens.bob)?;
    screen.chapter("From token to ticket: a service that takes Kerberos only");
    let alice = circle::tell(screen, world, &tokens.alice)?;
    screen.chapter("While the broker is away");
    broker_away(screen, world, &alice)
}

fn tickets(screen: &mut Screen, world: &World) -> Result<Tokens, HarnessError> {
    screen.step("alice asks with her Kerberos ticket");
    let alice = with_ticket(screen, world, "alice", "orders:read orders:write")?;
    let proof = world.complete("alice", "/orders/1")?;
    let proven = proof.get("established").and_then(Value::as_bool) == Some(true);
    screen.check(
        "GSSAPI verifies the reply: the service has proven itself to alice",
        proven,
        &proof.get("complaint").map(ToString::to_string).unwrap_or_default(),
    );
    screen.step("bob asks with his");
    let bob = with_ticket(screen, world, "bob", "orders:read")?;
    Ok(Tokens { alice, bob })
}

fn with_ticket(screen: &mut Screen, world: &World, user: &str, scopes: &str) -> Result<String, HarnessError> {
    let seen = send(screen, world, Detail::Full, &world.curl_as(user, "/orders/1"))?;
    let token = seen.answer.header("x-kerbridge-token").unwrap_or_default().to_owned();
    let decoded = token::decode(&token);
    if let Some(decoded) = &decoded {
        show_token(screen, decoded, &token);
    }
    let principal = format!("{user}@LAB.TEST");
    check_status(screen, &seen.answer, 200);
    check_subject(screen, &seen, &principal);
    screen.check(
        &format!("it is told {user}'s scopes: {scopes}"),
        seen.received("x-kerbridge-scope") == [scopes],
        &format!("{:?}", seen.received("x-kerbridge-scope")),
    );
    screen.check(
        "it gets neither the ticket nor the token",
        seen.received("authorization").is_empty() && seen.received("x-kerbridge-token").is_empty(),
        "an Authorization header arrived",
    );
    let subject = decoded.as_ref().and_then(|token| token.claims.get("sub")?.as_str());
    screen.check(
        &format!("{user} gets a token for {principal}"),
        subject == Some(&principal),
        &format!("{subject:?}"),
    );
    Ok(token)
}

/// The members in the order in which they are read; others follow.
const ORDER: &[&str] = &[
    "typ",
    "alg",
    "kid",
    "iss",
    "sub",
    "aud",
    "scope",
    "client_id",
    "iat",
    "exp",
    "auth_time",
    "amr",
];

fn show_token(screen: &mut Screen, decoded: &Decoded, token: &str) {
    screen.field("the token", &mask(token));
    let members = [&decoded.header, &decoded.claims]
        .into_iter()
        .filter_map(Value::as_object)
        .flatten();
    let mut members: Vec<(&String, &Value)> = members.collect();
    let place = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
    members.sort_by_key(|(name, _)| place(name));
    for (name, value) in members {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let note = if name == "exp" {
            life(&decoded.claims)
        } else {
            String::new()
        };
        screen.more(Tone::Faint, &format!("{name:<14}{text}{note}"));
    }
    screen.more(
        Tone::Faint,
        &format!("{:<14}{} bytes, not shown", "signature", decoded.signature_bytes),
    );
}

/// How long after its issue the token ends.
fn life(claims: &Value) -> String {
    let moment = |name: &str| claims.get(name)?.as_u64();
    let life = moment("exp")
        .zip(moment("iat"))
        .and_then(|(end, start)| end.checked_sub(start));
    life.map_or_else(String::new, |life| format!("  ({life} s after iat)"))
}

fn token_alone(screen: &mut Screen, world: &World, token: &str) -> Result<(), HarnessError> {
    screen.step("alice goes on with the token alone");
    let seen = send(screen, world, Detail::Brief, &world.curl("/orders/2").bearer(token))?;
    check_status(screen, &seen.answer, 200);
    check_subject(screen, &seen, "alice@LAB.TEST");
    screen.check(
        "the broker is not asked",
        seen.exchanges.is_empty(),
        "there was an exchange",
    );
    Ok(())
}

fn broker_away(screen: &mut Screen, world: &mut World, token: &str) -> Result<(), HarnessError> {
    screen.step("the broker is stopped, and alice's token still passes");
    world.broker().stop()?;
    let seen = send(screen, world, Detail::Brief, &world.curl("/orders/3").bearer(token))?;
    check_status(screen, &seen.answer, 200);
    check_subject(screen, &seen, "alice@LAB.TEST");

    screen.step("a ticket has to wait for the broker");
    let seen = send(screen, world, Detail::Brief, &world.curl_as("alice", "/orders/3"))?;
    refusals::check_refused(screen, world, &seen, 503, "broker_unavailable");
    screen.check(
        "the client is told when to try again",
        seen.answer.header("retry-after").is_some(),
        "no Retry-After",
    );

    screen.step("the broker is back");
    world.broker().start()?;
    let seen = send(screen, world, Detail::Brief, &world.curl_as("alice", "/orders/3"))?;
    check_status(screen, &seen.answer, 200);
    check_subject(screen, &seen, "alice@LAB.TEST");
    Ok(())
}

/// The status must be this one.
pub(crate) fn check_status(screen: &mut Screen, answer: &Answer, expected: u16) {
    let found = format!(
        "{} {} {}",
        answer.status,
        answer.text().trim(),
        masked("complaint", &answer.complaint)
    );
    screen.check(
        &format!("the client gets {expected}"),
        answer.status == expected,
        &found,
    );
}

/// The service must have been told this principal and no other.
pub(crate) fn check_subject(screen: &mut Screen, seen: &Seen, principal: &str) {
    let told = seen.received("x-kerbridge-subject");
    screen.check(
        &format!("the service is told {principal}"),
        told == [principal],
        &format!("{told:?}"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted_elsewhere() {
        for (line, expected) in [
            (
                "curl --cacert /lab/ca.pem --negotiate --user : https://localhost:4711/orders/1",
                "curl --cacert \"$CA\" --negotiate --user : $URL/orders/1",
            ),
            (
                "curl --cacert /lab/ca.pem --header 'Authorization: Bearer eyJ0eXAi…' --header 'a: b' https://localhost:4711/",
                "curl --cacert \"$CA\" --header \"Authorization: Bearer $TOKEN\" --header 'a: b' $URL/",
            ),
            (
                "curl --cacert /lab/ca.pem https://localhost:815/legacy",
                "curl --cacert \"$CA\" $APACHE/legacy",
            ),
        ] {
            let places = [
                ("https://localhost:4711".to_owned(), "$URL"),
                ("https://localhost:815".to_owned(), "$APACHE"),
            ];
            assert_eq!(for_pasting(line, "/lab/ca.pem", &places), expected);
        }
    }
}
