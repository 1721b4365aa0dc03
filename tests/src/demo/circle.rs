//! Tells how a token opens a service that takes Kerberos only: whom, with which tickets, and when no longer.

use std::time::Duration;

use kerbridge_tests::apache::{self, Apache, Served, remote_user};
use kerbridge_tests::broker::Broker;
use kerbridge_tests::curl::Curl;
use kerbridge_tests::engine::capture::masked;
use kerbridge_tests::scripted_server::Incoming;
use kerbridge_tests::wait::{Deadline, POLL, wait_until};
use kerbridge_tests::{HarnessError, World};
use ring::digest;
use serde_json::Value;

use super::leg::Leg;
use super::refusals::check_refused;
use super::story::{self, Behind, Detail, Seen, check_status};
use crate::screen::{Screen, Tone};

const ALICE: &str = "alice@LAB.TEST";
/// Apache writes its log behind its answers.
const NOTED_WITHIN: Duration = Duration::from_secs(10);
/// A filter asks what is revoked every two seconds.
const REVOKED_WITHIN: Duration = Duration::from_secs(10);

/// All steps, in order. Alice's token for orders ends on the way; the one that she has then is returned.
pub(crate) fn tell(screen: &mut Screen, world: &mut World, orders: &str) -> Result<String, HarnessError> {
    let token = there_and_back(screen, world)?;
    straight_to_apache(screen, world, &token)?;
    token_alone(screen, world, &token)?;
    not_for_bob(screen, world)?;
    let orders = taken_back(screen, world, &token, orders)?;
    what_apache_noted(screen, world)?;
    Ok(orders)
}

fn there_and_back(screen: &mut Screen, world: &World) -> Result<String, HarnessError> {
    screen.step("alice asks Apache, through Envoy, with her ticket for Envoy");
    let seen = send(screen, world, Detail::Brief, &world.curl_as("alice", "/legacy/1"))?;
    check_status(screen, &seen.answer, 200);
    check_user(screen, &seen);
    check_ticket_alone(screen, world, &seen)?;
    let token = seen.answer.header("x-kerbridge-token").unwrap_or_default().to_owned();
    screen.check("alice gets a token for it", !token.is_empty(), "no x-kerbridge-token");
    Ok(token)
}

fn straight_to_apache(screen: &mut Screen, world: &World, token: &str) -> Result<(), HarnessError> {
    screen.step("that token alone, straight to Apache, opens nothing");
    let request = Curl::new(format!("{}/legacy/2", apache(world)?.https()))
        .trusting(&world.certificates().authority)
        .bearer(token);
    let before = served(world)?.len();
    let answer = request.send()?;
    story::show_command(screen, world, &request);
    Leg::request_on("client -> Apache", &answer).show(screen);
    Leg::response_on("Apache -> client", &answer).show(screen);
    check_status(screen, &answer, 401);
    let challenges = answer.all("www-authenticate");
    screen.check(
        "Apache wants Kerberos and nothing else",
        challenges == ["Negotiate"],
        &format!("{challenges:?}"),
    );
    wait_for_log(world, before.saturating_add(1))
}

fn token_alone(screen: &mut Screen, world: &World, token: &str) -> Result<(), HarnessError> {
    screen.step("the token alone, through Envoy: Apache sees alice, by Kerberos");
    let seen = send(screen, world, Detail::Full, &world.curl("/legacy/3").bearer(token))?;
    check_status(screen, &seen.answer, 200);
    check_user(screen, &seen);
    screen.check(
        "she showed her token and no ticket",
        seen.answer.negotiate_tokens().is_empty(),
        "a ticket was sent",
    );
    let first = check_ticket_alone(screen, world, &seen)?;
    screen.check(
        "her token did not reach Apache",
        !holds(&seen.received, token),
        "the token is in what Apache received",
    );
    screen.check(
        "Apache's WWW-Authenticate did not reach her",
        first.challenge.is_some() && seen.answer.header("www-authenticate").is_none(),
        &format!(
            "Apache sent one: {}, she got one: {}",
            first.challenge.is_some(),
            seen.answer.header("www-authenticate").is_some()
        ),
    );

    screen.step("and once more: each request brings a ticket of its own");
    let asked = world.kdc().requests();
    let seen = send(screen, world, Detail::Brief, &world.curl("/legacy/4").bearer(token))?;
    check_user(screen, &seen);
    let second = check_ticket_alone(screen, world, &seen)?;
    let fingerprints = (fingerprint(&first), fingerprint(&second));
    screen.check(
        "it is another one than before",
        fingerprints.0 != fingerprints.1,
        &format!("{fingerprints:?}"),
    );
    let asked = world.kdc().requests().saturating_sub(asked);
    screen.check(
        "the KDC did not have to be asked again",
        asked == 0,
        &format!("{asked} times"),
    );
    Ok(())
}

fn not_for_bob(screen: &mut Screen, world: &World) -> Result<(), HarnessError> {
    screen.step("bob may have a token for it, but no [[delegation]] of the policy is for him");
    let seen = send(screen, world, Detail::Brief, &world.curl_as("bob", "/legacy/5"))?;
    check_refused(screen, world, &seen, 403, "denied_by_policy");
    let token = seen.answer.header("x-kerbridge-token").unwrap_or_default();
    screen.line(&[(Tone::Faint, "    and with that token alone")]);
    let seen = send(screen, world, Detail::Brief, &world.curl("/legacy/6").bearer(token))?;
    check_refused(screen, world, &seen, 403, "denied_by_policy");
    Ok(())
}

/// Takes back what alice has, and returns the token with which she comes again.
fn taken_back(screen: &mut Screen, world: &mut World, legacy: &str, orders: &str) -> Result<String, HarnessError> {
    screen.step("alice's tokens are taken back");
    let (folder, config) = (world.folder().to_owned(), world.broker().config());
    let whose = ["--subject", ALICE, "--before", "now"];
    let config = config.to_string_lossy();
    let arguments: Vec<&str> = ["revoke", "--config", &config].into_iter().chain(whose).collect();
    let (status, said) = Broker::run(&folder, &arguments)?;
    let command = format!("kerbridge revoke --config kerbridge.toml {}", whose.join(" "));
    screen.line(&[(Tone::Faint, "    $ "), (Tone::Plain, &command)]);
    for line in said.lines() {
        screen.more(Tone::Faint, line);
    }
    screen.check("they are revoked", status.success(), &status.to_string());

    screen.line(&[(Tone::Faint, "    there are no more tickets for her token, at once")]);
    let seen = send(screen, world, Detail::Brief, &world.curl("/legacy/7").bearer(legacy))?;
    check_refused(screen, world, &seen, 401, "revoked");

    let request = world.curl("/orders/5").bearer(orders);
    let clock = Deadline::after(REVOKED_WITHIN);
    while !clock.passed() && request.send()?.status == 200 {
        std::thread::sleep(POLL);
    }
    let after = clock.elapsed().as_millis();
    let line = format!("    and her token for orders, about which nobody is asked, {after} ms later");
    screen.line(&[(Tone::Faint, &line)]);
    let seen = story::send(screen, world, Detail::Brief, &request)?;
    check_refused(screen, world, &seen, 401, "revoked");

    screen.line(&[(Tone::Faint, "    with her ticket she may come again")]);
    let seen = story::send(screen, world, Detail::Brief, &world.curl_as("alice", "/orders/6"))?;
    check_status(screen, &seen.answer, 200);
    Ok(seen.answer.header("x-kerbridge-token").unwrap_or_default().to_owned())
}

fn what_apache_noted(screen: &mut Screen, world: &World) -> Result<(), HarnessError> {
    screen.step("what Apache noted of all this");
    let served = served(world)?;
    for (number, one) in served.iter().enumerate() {
        let user = one.user.as_deref().unwrap_or("nobody");
        let brought = match fingerprint(one) {
            Some(fingerprint) => format!("a ticket, SHA-256 {fingerprint}"),
            None => "a token".to_owned(),
        };
        let line = format!("{:<11} {} {user:<16} {brought}", one.target, one.status);
        if number == 0 {
            screen.field("access log", &line);
        } else {
            screen.more(Tone::Plain, &line);
        }
    }
    let passed: Vec<&Served> = served.iter().filter(|one| one.status == 200).collect();
    let strangers = passed.iter().filter(|one| one.user.as_deref() != Some(ALICE)).count();
    screen.check(
        "whomever it let in it knows as alice@LAB.TEST",
        passed.len() == 3 && strangers == 0,
        &format!("{} passed, {strangers} of them as others", passed.len()),
    );
    let mut tickets: Vec<_> = served.iter().filter_map(fingerprint).collect();
    let all = tickets.len();
    tickets.sort_unstable();
    tickets.dedup();
    screen.check(
        "no ticket came twice",
        all == tickets.len(),
        &format!("{all} tickets, {} different ones", tickets.len()),
    );
    let tokens = served.iter().filter(|one| fingerprint(one).is_none()).count();
    screen.check(
        "a token came once: the one that alice brought by herself, past Envoy",
        tokens == 1,
        &tokens.to_string(),
    );
    Ok(())
}

fn apache(world: &World) -> Result<&Apache, HarnessError> {
    world.apache().ok_or_else(|| HarnessError::UnexpectedAnswer {
        what: "the service that takes Kerberos only".to_owned(),
        answer: "a world without one".to_owned(),
    })
}

fn served(world: &World) -> Result<Vec<Served>, HarnessError> {
    apache(world)?.served()
}

fn wait_for_log(world: &World, lines: usize) -> Result<(), HarnessError> {
    let noted = || served(world).is_ok_and(|served| served.len() >= lines);
    wait_until("a line of Apache's log", NOTED_WITHIN, noted)
}

/// Sends a request that leads to Apache, shows the command and every leg.
fn send(screen: &mut Screen, world: &World, detail: Detail, request: &Curl) -> Result<Seen, HarnessError> {
    let (exchanges, before) = (story::exchanges(world).len(), served(world)?.len());
    let answer = request.send()?;
    let echoed = apache::received(&answer.json());
    if echoed.is_some() {
        wait_for_log(world, before.saturating_add(1))?;
    }
    // What Apache refused, it does not echo.
    let refused = served(world)?.into_iter().nth(before).map(|served| Incoming {
        line: served.target,
        ..Incoming::default()
    });
    let seen = Seen {
        behind: Behind::Apache,
        exchanges: story::exchanges(world).into_iter().skip(exchanges).collect(),
        received: echoed.or(refused),
        answer,
    };
    story::show(screen, world, detail, request, &seen);
    Ok(seen)
}

/// Apache must have seen alice.
fn check_user(screen: &mut Screen, seen: &Seen) {
    let answer: Value = seen.answer.json();
    let user = remote_user(&answer);
    screen.check(
        "Apache sees alice@LAB.TEST, by Kerberos",
        user == Some(ALICE),
        &format!("{user:?}"),
    );
}

/// What Apache got to know the caller by must be one ticket; what it noted of that is shown.
fn check_ticket_alone(screen: &mut Screen, world: &World, seen: &Seen) -> Result<Served, HarnessError> {
    let values = seen.received("authorization");
    let masked: Vec<String> = values.iter().map(|value| masked("authorization", value)).collect();
    let is_ticket = matches!(values.as_slice(), [value] if value.starts_with("Negotiate "));
    let others = ["cookie", "x-kerbridge-token"].map(|name| seen.received(name).len());
    screen.check(
        "it got one ticket and no other credential",
        is_ticket && others == [0, 0],
        &format!("{masked:?}, {others:?} others"),
    );
    let last = served(world)?.pop().ok_or_else(|| HarnessError::UnexpectedAnswer {
        what: "a line of Apache's log".to_owned(),
        answer: "an empty log".to_owned(),
    })?;
    screen.field("ticket", &format!("SHA-256 {}", fingerprint(&last).unwrap_or_default()));
    Ok(last)
}

fn holds(received: &Option<Incoming>, secret: &str) -> bool {
    let headers = received.iter().flat_map(|received| &received.headers);
    headers
        .flat_map(|(name, value)| [name, value])
        .any(|text| String::from_utf8_lossy(text).contains(secret))
}

/// The beginning of the hash of the ticket that came, which tells it from others and opens nothing.
fn fingerprint(served: &Served) -> Option<String> {
    let ticket = served.authorization.as_deref()?.strip_prefix("Negotiate ")?;
    let hash = digest::digest(&digest::SHA256, ticket.as_bytes());
    let start = hash.as_ref().iter().take(8);
    Some(start.map(|byte| format!("{byte:02x}")).collect())
}
