//! Shows one leg of an exchange: what matters on screen, everything in the capture, no secret in either.

use kerbridge_tests::curl::Answer;
use kerbridge_tests::relay::Recorded;
use kerbridge_tests::scripted_server::Incoming;
use serde_json::Value;

use crate::screen::{Screen, Tone, mask};

/// What a Kerberos ticket is called in an exchange.
const TICKET: &str = "urn:kerbridge:token-type:negotiate";

/// One direction between two parties.
pub(crate) struct Leg {
    route: &'static str,
    first: String,
    fields: Vec<Field>,
}

struct Field {
    name: String,
    value: String,
    shown: bool,
}

impl Leg {
    fn new(route: &'static str, first: impl Into<String>) -> Self {
        Self {
            route,
            first: first.into(),
            fields: Vec::new(),
        }
    }

    fn field(&mut self, name: &str, value: &str, shown: bool) {
        self.fields.push(Field {
            name: name.to_owned(),
            value: masked(name, value),
            shown,
        });
    }

    /// What the client sent; the last request where there were several.
    pub(crate) fn request(answer: &Answer) -> Self {
        Self::request_on("client -> Envoy", answer)
    }

    /// The same on another way.
    pub(crate) fn request_on(route: &'static str, answer: &Answer) -> Self {
        let head = answer.sent.last().map(String::as_str).unwrap_or_default();
        let mut lines = head.lines();
        let mut leg = Self::new(route, lines.next().unwrap_or("nothing"));
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            let shown = ["authorization", "x-kerbridge-subject"].contains(&name.to_ascii_lowercase().as_str());
            leg.field(name, value, shown);
        }
        leg
    }

    /// What the client got.
    pub(crate) fn response(answer: &Answer) -> Self {
        let mut leg = Self::response_on("Envoy -> client", answer);
        if answer.status != 200 {
            leg.field("body", answer.text().trim(), true);
        }
        leg
    }

    /// The same on another way, without the body.
    pub(crate) fn response_on(route: &'static str, answer: &Answer) -> Self {
        let mut leg = Self::new(route, status(answer.status));
        for (name, value) in &answer.headers {
            let lower = name.to_ascii_lowercase();
            let shown = lower.starts_with("x-kerbridge-")
                || ["www-authenticate", "cache-control", "retry-after"].contains(&lower.as_str());
            leg.field(name, value, shown);
        }
        leg
    }

    /// The call to the broker, its form taken apart.
    pub(crate) fn call(recorded: &Recorded) -> Self {
        let form: Vec<(String, String)> = String::from_utf8_lossy(&recorded.call.body)
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (name.to_owned(), form_decoded(value)))
            .collect();
        let line = recorded.call.line.trim_end_matches(" HTTP/1.1");
        let mut leg = Self::new("Envoy -> broker", format!("{line}  ({})", purpose(&form)));
        for (name, value) in &recorded.call.headers {
            leg.field(&String::from_utf8_lossy(name), &String::from_utf8_lossy(value), false);
        }
        for (name, value) in &form {
            leg.field(name, value, true);
        }
        leg
    }

    /// The broker's answer, its JSON taken apart.
    pub(crate) fn reply(recorded: &Recorded) -> Self {
        let Some(answer) = &recorded.answer else {
            return Self::new("broker -> Envoy", "nothing");
        };
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let reason = body.get("reason").and_then(Value::as_str);
        let reason = reason.map_or_else(String::new, |reason| format!("  ({reason})"));
        let mut leg = Self::new("broker -> Envoy", format!("{}{reason}", status(answer.status)));
        for (name, value) in &answer.headers {
            leg.field(name, value, false);
        }
        for (name, value) in body.as_object().into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            leg.field(name, &text, true);
        }
        leg
    }

    /// What the service received, or that it received nothing.
    pub(crate) fn service(route: &'static str, received: Option<&Incoming>) -> Self {
        let Some(received) = received else {
            return Self::new(route, "nothing");
        };
        let mut leg = Self::new(route, received.line.clone());
        for (name, value) in &received.headers {
            let name = String::from_utf8_lossy(name);
            let shown = name.to_ascii_lowercase().starts_with("x-kerbridge-") || name == "authorization";
            leg.field(&name, &String::from_utf8_lossy(value), shown);
        }
        leg
    }

    /// Writes its first line; the capture gets all of it.
    pub(crate) fn show_brief(&self, screen: &mut Screen) {
        screen.field(self.route, &self.first);
        self.keep(screen);
    }

    /// Writes what matters; the capture gets all of it.
    pub(crate) fn show(&self, screen: &mut Screen) {
        screen.field(self.route, &self.first);
        self.keep(screen);
        let shown = self.fields.iter().filter(|field| field.shown);
        let width = shown.clone().map(|field| field.name.len()).max().unwrap_or(0);
        for Field { name, value, .. } in shown {
            screen.show_more(Tone::Faint, &format!("{name:<width$}  {value}"));
        }
    }

    fn keep(&self, screen: &mut Screen) {
        let width = self.fields.iter().map(|field| field.name.len()).max().unwrap_or(0);
        for Field { name, value, .. } in &self.fields {
            screen.keep_more(&format!("{name:<width$}  {value}"));
        }
    }
}

/// What becomes of what in an exchange.
fn purpose(form: &[(String, String)]) -> &'static str {
    let wants_ticket = |(name, value): &(String, String)| name == "requested_token_type" && value == TICKET;
    if form.iter().any(wants_ticket) {
        "a token, to become a ticket"
    } else {
        "a ticket, to become a token"
    }
}

/// The status with its name (RFC 9110 §15), for those that the story meets.
fn status(code: u16) -> String {
    let name = match code {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        503 => "Service Unavailable",
        _ => "",
    };
    format!("{code} {name}").trim_end().to_owned()
}

/// A value without its secret.
pub(crate) fn masked(name: &str, value: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        "authorization" | "www-authenticate" => match value.split_once(' ') {
            Some((scheme, secret)) if !secret.contains('=') || secret.len() > 120 => {
                format!("{scheme} {}", mask(secret))
            }
            Some(_) | None => value.to_owned(),
        },
        "x-kerbridge-token" | "subject_token" | "access_token" | "negotiate" => mask(value),
        _ => value.to_owned(),
    }
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
    fn no_secret_is_left_in_a_field() {
        let secret = "YIIC".repeat(40);
        for (name, value) in [
            ("Authorization", format!("Negotiate {secret}")),
            ("authorization", format!("Bearer {secret}")),
            ("WWW-Authenticate", format!("Negotiate {secret}==")),
            ("x-kerbridge-token", secret.clone()),
            ("subject_token", secret.clone()),
            ("access_token", secret.clone()),
            ("negotiate", secret.clone()),
        ] {
            let shown = masked(name, &value);
            assert!(!shown.contains(&secret) && shown.contains("masked"), "{name}: {shown}");
        }
    }

    #[test]
    fn a_challenge_is_no_secret() {
        for challenge in ["Negotiate", "Bearer", "Bearer error=\"invalid_token\""] {
            assert_eq!(masked("www-authenticate", challenge), challenge);
        }
    }

    #[test]
    fn an_exchange_says_what_becomes_of_what() {
        let form = |name: &str| vec![(name.to_owned(), TICKET.to_owned())];
        assert_eq!(purpose(&form("requested_token_type")), "a token, to become a ticket");
        assert_eq!(purpose(&form("subject_token_type")), "a ticket, to become a token");
    }

    #[test]
    fn a_form_value_is_decoded() {
        assert_eq!(form_decoded("urn%3Aa%2Bb+c%"), "urn:a+b c%");
    }
}
