//! Makes records of what the legs carried: everything that can be read, and no credential.

use serde_json::Value;

use super::kdc_relay::Asked;
use super::kerberos::Message;
use crate::curl::{Answer, Curl};
use crate::relay::Recorded;
use crate::report::model::{Direction, Leg, Record};
use crate::scripted_server::Incoming;
use crate::wait::Clock;

/// What a Kerberos ticket is called in an exchange.
const TICKET: &str = "urn:kerbridge:token-type:negotiate";
/// No name, address or path of the lab is a longer run of a credential's characters.
const RUN: usize = 64;
/// Lines of a body that are shown.
const BODY_LINES: usize = 20;

/// A secret as it is shown: its first characters, which every secret of its kind shares, and its length.
#[must_use]
pub fn mask(secret: &str) -> String {
    let start: String = secret.chars().take(8).collect();
    format!("{start}… ({} characters, masked)", secret.chars().count())
}

/// A header's, a parameter's or a member's value without its secret.
#[must_use]
pub fn masked(name: &str, value: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        "authorization" | "www-authenticate" | "proxy-authorization" => match value.split_once(' ') {
            Some((scheme, secret)) if !secret.contains('=') || secret.len() > 120 => {
                format!("{scheme} {}", mask(secret))
            }
            // Short credentials end with padding; a challenge's parameters are quoted.
            Some((scheme, secret)) if !secret.contains('"') => format!("{scheme} {}", mask(secret)),
            Some(_) | None => without_runs(value),
        },
        "x-kerbridge-token" | "x-api-token" | "subject_token" | "access_token" | "id_token" | "negotiate"
        | "continuation" | "token" | "client_assertion" => mask(value),
        "cookie" | "set-cookie" => cookies(value),
        _ => without_runs(value),
    }
}

fn cookies(value: &str) -> String {
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, value)) if value.len() > 24 => format!("{name}={}", mask(value)),
        Some(_) | None => pair.to_owned(),
    };
    value.split("; ").map(pair).collect::<Vec<_>>().join("; ")
}

/// What is as long as a credential and written in its characters is masked wherever it stands.
#[must_use]
pub fn without_runs(text: &str) -> String {
    let is_of_a_credential = |letter: char| letter.is_ascii_alphanumeric() || "+/_-=".contains(letter);
    let mut shown = String::new();
    let mut run = String::new();
    for letter in text.chars().chain(['\n']) {
        if is_of_a_credential(letter) {
            run.push(letter);
            continue;
        }
        shown.push_str(&if run.len() >= RUN { mask(&run) } else { run.clone() });
        run.clear();
        shown.push(letter);
    }
    shown.pop();
    shown
}

/// What the client sent, and what it got.
pub(crate) fn client(request: &Curl, answer: &Answer, times: (u64, u64)) -> Vec<Record> {
    let command = format!("$ {}", without_runs(&request.command_line()));
    let head = answer.sent.last().map(String::as_str).unwrap_or_default();
    let mut lines = head.lines();
    let first = lines.next().unwrap_or("nothing was sent").to_owned();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let sent = headers.map(|(name, value)| pair(name, value));
    let over = answer.tls.as_ref().map(|tls| format!("* over {}", without_runs(tls)));
    let asked = Record {
        leg: Leg::Client,
        at_ms: times.0,
        direction: Direction::Request,
        summary: without_runs(&first),
        lines: std::iter::once(command).chain(over).chain(sent).collect(),
    };
    let mut lines: Vec<String> = answer.headers.iter().map(|(name, value)| pair(name, value)).collect();
    let summary = if answer.status == 0 {
        format!("no answer: {}", without_runs(&answer.complaint))
    } else {
        status(answer.status)
    };
    if answer.status >= 400 {
        lines.push(String::new());
        lines.extend(answer.text().lines().take(BODY_LINES).map(without_runs));
    }
    let answered = Record {
        leg: Leg::Client,
        at_ms: times.1,
        direction: Direction::Response,
        summary,
        lines,
    };
    vec![asked, answered]
}

/// A call to the broker, its form taken apart, and the answer, its JSON taken apart.
pub(crate) fn broker(recorded: &Recorded, clock: Clock) -> Vec<Record> {
    let form = form(&recorded.call.body);
    let line = recorded.call.line.trim_end_matches(" HTTP/1.1");
    let purpose = purpose(&form).map(|purpose| format!("  ({purpose})"));
    let headers = recorded.call.headers.iter();
    let headers = headers.map(|(name, value)| pair(&String::from_utf8_lossy(name), &String::from_utf8_lossy(value)));
    let parameters = form.iter().map(|(name, value)| pair(name, value));
    let at = recorded.call.at.unwrap_or(recorded.answered_at);
    let call = Record {
        leg: Leg::Broker,
        at_ms: clock.ms_at(at),
        direction: Direction::Request,
        summary: without_runs(&format!("{line}{}", purpose.unwrap_or_default())),
        lines: headers.chain(parameters).collect(),
    };
    let mut reply = Record {
        leg: Leg::Broker,
        at_ms: clock.ms_at(recorded.answered_at),
        direction: Direction::Response,
        summary: "no answer".to_owned(),
        lines: Vec::new(),
    };
    if let Some(answer) = &recorded.answer {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let reason = body.get("reason").and_then(Value::as_str);
        let reason = reason.map(|reason| format!("  ({reason})")).unwrap_or_default();
        reply.summary = format!("{}{reason}", status(answer.status));
        reply.lines = answer.headers.iter().map(|(name, value)| pair(name, value)).collect();
        for (name, value) in body.as_object().into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            reply.lines.push(pair(name, &text));
        }
    }
    vec![call, reply]
}

/// A question to the KDC and its answer.
pub(crate) fn kdc(asked: &Asked, clock: Clock) -> Vec<Record> {
    let record = |message: &Message, direction, at| Record {
        leg: Leg::Kdc,
        at_ms: clock.ms_at(at),
        direction,
        summary: without_runs(&message.summary),
        lines: message.lines.iter().map(|line| without_runs(line)).collect(),
    };
    let nothing = Message {
        summary: "no answer: nobody is there".to_owned(),
        lines: Vec::new(),
    };
    let answer = asked.answer.as_ref().unwrap_or(&nothing);
    vec![
        record(&asked.question, Direction::Request, asked.at),
        record(answer, Direction::Response, asked.answered_at),
    ]
}

/// What a service behind Envoy received.
pub(crate) fn upstream(received: &Incoming, at_ms: u64) -> Record {
    let headers = received.headers.iter();
    let headers = headers.map(|(name, value)| pair(&String::from_utf8_lossy(name), &String::from_utf8_lossy(value)));
    Record {
        leg: Leg::Upstream,
        at_ms,
        direction: Direction::Request,
        summary: without_runs(&received.line),
        lines: headers.collect(),
    }
}

fn pair(name: &str, value: &str) -> String {
    format!("{name}: {}", masked(name, value))
}

/// The parameters of a form (`application/x-www-form-urlencoded`).
#[must_use]
pub fn form(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(body);
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.to_owned(), form_decoded(value)))
        .collect()
}

/// What becomes of what in an exchange; nothing where it is none.
#[must_use]
pub fn purpose(form: &[(String, String)]) -> Option<&'static str> {
    if asks_for_a_ticket(form) {
        Some("a token, to become a ticket")
    } else if is_ticket(form, "subject_token_type") {
        Some("a ticket, to become a token")
    } else {
        None
    }
}

/// Whether an exchange is to give a ticket.
pub(super) fn asks_for_a_ticket(form: &[(String, String)]) -> bool {
    is_ticket(form, "requested_token_type")
}

fn is_ticket(form: &[(String, String)], parameter: &str) -> bool {
    form.iter().any(|(name, value)| name == parameter && value == TICKET)
}

/// The status with its name (RFC 9110 §15), for those that the scenarios meet.
#[must_use]
pub fn status(code: u16) -> String {
    let name = match code {
        200 => "OK",
        303 => "See Other",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "",
    };
    format!("{code} {name}").trim_end().to_owned()
}

/// Undoes `application/x-www-form-urlencoded`.
fn form_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (byte, hex.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(decoded)) => {
                bytes.push(decoded);
                rest = tail.get(2..).unwrap_or_default();
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            (plain, _) => {
                bytes.push(plain);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_left_in_a_value_wherever_it_stands() {
        let secret = "YIIC".repeat(40);
        for (name, value) in [
            ("Authorization", format!("Negotiate {secret}")),
            ("authorization", format!("Bearer {secret}")),
            ("Authorization", format!("NTLM {}==", "TlRM".repeat(12))),
            ("WWW-Authenticate", format!("Negotiate {secret}==")),
            ("x-kerbridge-token", secret.clone()),
            ("subject_token", secret.clone()),
            ("cookie", format!("theme=dark; __Host-kerbridge-00={secret}; lang=de")),
            ("set-cookie", format!("__Host-kerbridge-00={secret}; Path=/; Secure")),
            ("x-of-somebody", format!("before {secret}, after")),
            ("location", format!("/orders?code={secret}")),
        ] {
            let shown = masked(name, &value);
            assert!(!shown.contains(secret.split_at(48).0), "{name}: {shown}");
            assert!(shown.contains("masked"), "{name}: {shown}");
        }
    }

    #[test]
    fn what_is_no_secret_stays_readable() {
        for (name, value) in [
            ("www-authenticate", "Negotiate"),
            ("www-authenticate", "Bearer error=\"invalid_token\""),
            ("cookie", "theme=dark; lang=de"),
            ("set-cookie", "__Host-kerbridge-logged-out=1; Path=/; Max-Age=300"),
            ("x-kerbridge-subject", "alice@LAB.TEST"),
            ("accept", "*/*"),
        ] {
            assert_eq!(masked(name, value), value);
        }
    }

    #[test]
    fn an_exchange_says_what_becomes_of_what() {
        let with = |name: &str| form(format!("{name}=urn%3Akerbridge%3Atoken-type%3Anegotiate&a=b+c%").as_bytes());
        assert_eq!(
            purpose(&with("requested_token_type")),
            Some("a token, to become a ticket")
        );
        assert_eq!(
            purpose(&with("subject_token_type")),
            Some("a ticket, to become a token")
        );
        assert_eq!(purpose(&form(b"grant_type=x")), None);
        assert_eq!(with("x").pop(), Some(("a".to_owned(), "b c%".to_owned())));
    }
}
