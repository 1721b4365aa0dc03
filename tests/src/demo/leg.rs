//! Shows one leg of an exchange: what matters on screen, everything in the capture, no secret in either.

use kerbridge_tests::curl::Answer;
use kerbridge_tests::engine::capture::{self, masked};
use kerbridge_tests::relay::Recorded;
use kerbridge_tests::scripted_server::Incoming;
use serde_json::Value;

use crate::screen::{Screen, Tone};

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
        let mut leg = Self::new(route, capture::status(answer.status));
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
        let form = capture::form(&recorded.call.body);
        let line = recorded.call.line.trim_end_matches(" HTTP/1.1");
        let mut leg = Self::new(
            "Envoy -> broker",
            format!("{line}  ({})", capture::purpose(&form).unwrap_or("neither")),
        );
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
        let mut leg = Self::new("broker -> Envoy", format!("{}{reason}", capture::status(answer.status)));
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
