//! Does what a script says, one word after the other, and keeps what the host answered.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType, MetricType, Status};

use crate::{host, root};

thread_local! {
    /// What all contexts of one VM remember.
    static KEPT: RefCell<BTreeMap<String, String>> = const { RefCell::new(BTreeMap::new()) };
}

/// What a context remembers between its callbacks.
#[derive(Default)]
pub(crate) struct State {
    /// What was seen, one line each.
    pub(crate) transcript: Vec<String>,
    /// A callout is open.
    pub(crate) waiting: bool,
    /// A local response was sent.
    pub(crate) answered: bool,
    /// The root's ticks so far.
    pub(crate) ticks: u64,
    reply_body: Vec<u8>,
}

impl State {
    /// Notes what a callout's callback shows, before any getter that could fail.
    pub(crate) fn take_reply(&mut self, headers: usize, body: usize, trailers: usize) {
        let status = if headers == 0 {
            "unread".to_owned()
        } else {
            show(hostcalls::get_map_value_bytes(
                MapType::HttpCallResponseHeaders,
                ":status",
            ))
        };
        let taken = if body == 0 {
            Ok(None)
        } else {
            hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, body)
        };
        self.reply_body = taken.ok().flatten().unwrap_or_default();
        let text = self.reply_body.escape_ascii();
        self.transcript.push(format!(
            "reply headers={headers} body={body} trailers={trailers} status={status} {text}"
        ));
    }

    fn note(&mut self, op: &str, what: &str, seen: &str) {
        self.transcript.push(format!("{op} {what} -> {seen}"));
    }
}

/// Runs every step of a script.
pub(crate) fn run(script: &str, state: &mut State) {
    for step in script.split(';') {
        let words: Vec<&str> = step.split_whitespace().collect();
        perform(&words, state);
    }
}

fn perform(words: &[&str], state: &mut State) {
    let request = MapType::HttpRequestHeaders;
    match *words {
        [] => {}
        ["say", text] => state.transcript.push(text.to_owned()),
        ["ticks"] => state.transcript.push(format!("ticks={}", state.ticks)),
        ["panic"] => trap(),
        ["log"] => state.transcript.iter().for_each(|line| root::log(line)),
        ["set", name, value] => {
            let seen = hostcalls::set_map_value_bytes(request, name, Some(value.as_bytes()));
            state.note("set", name, &format!("{seen:?}"));
        }
        ["take", name] => {
            let seen = hostcalls::set_map_value_bytes(request, name, Some(&state.reply_body));
            state.note("take", name, &format!("{seen:?}"));
        }
        ["remove", name] => {
            let seen = hostcalls::remove_map_value(request, name);
            state.note("remove", name, &format!("{seen:?}"));
        }
        ["first", name] => state.note("first", name, &show(hostcalls::get_map_value_bytes(request, name))),
        ["map"] => {
            for (name, value) in hostcalls::get_map_bytes(request).unwrap_or_default() {
                state.note("map", &name, &value.escape_ascii().to_string());
            }
        }
        ["property", path] => {
            let seen = show(hostcalls::get_property(path.split('/').collect()));
            state.note("property", path, &seen);
        }
        ["put", name, value] => {
            let seen = host::set_property(name, value.as_bytes());
            state.note("put", name, &seen.to_string());
        }
        ["foreign", name, argument] => {
            let seen = show(hostcalls::call_foreign_function(name, Some(&unhex(argument))));
            state.note("foreign", name, &seen);
        }
        ["foreign", name] => {
            let seen = show(hostcalls::call_foreign_function(name, None));
            state.note("foreign", name, &seen);
        }
        ["keep", key, value] => KEPT.with_borrow_mut(|kept| drop(kept.insert(key.to_owned(), value.to_owned()))),
        ["kept", key] => {
            let seen = KEPT.with_borrow(|kept| kept.get(key).cloned());
            state.note("kept", key, seen.as_deref().unwrap_or("none"));
        }
        ["call", cluster, timeout] => call(cluster, timeout, state),
        ["shared", key] => {
            let seen = match hostcalls::get_shared_data(key) {
                Ok((value, cas)) => format!("{} cas={cas:?}", show(Ok(value))),
                Err(status) => format!("{status:?}"),
            };
            state.note("shared", key, &seen);
        }
        ["share", key, value, cas] => {
            let seen = host::set_shared_data(key, value.as_bytes(), cas.parse().unwrap_or(0));
            state.note("share", key, &seen.to_string());
        }
        ["bump", key, limit] => bump(key, limit.parse().unwrap_or(0)),
        ["whole", name, value] => {
            let mut map = hostcalls::get_map_bytes(request).unwrap_or_default();
            map.push((name.to_owned(), value.as_bytes().to_vec()));
            let borrowed = map
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_slice()))
                .collect();
            let seen = hostcalls::set_map_bytes(request, borrowed);
            state.note("whole", name, &format!("{seen:?}"));
        }
        ["resume"] => hostcalls::resume_http_request().unwrap_or(()),
        ["answer"] => answer(200, "", state),
        ["refuse", status, details] => answer(status.parse().unwrap_or(500), details, state),
        _ => state.transcript.push(format!("no such step: {}", words.join(" "))),
    }
}

fn answer(status: u32, details: &str, state: &mut State) {
    let mut body = String::new();
    for line in &state.transcript {
        body.push_str(line);
        body.push('\n');
    }
    state.answered = true;
    let seen = host::send_local_response(status, details, body.as_bytes());
    if seen != 0 {
        root::log(&format!("local response -> {seen}"));
    }
}

fn call(cluster: &str, timeout: &str, state: &mut State) {
    let headers = vec![(":method", "POST"), (":path", "/callout"), (":authority", "probe")];
    let timeout = Duration::from_millis(timeout.parse().unwrap_or(1000));
    let seen = hostcalls::dispatch_http_call(cluster, headers, Some(b"question"), Vec::new(), timeout);
    state.waiting = seen.is_ok();
    state.note(
        "call",
        cluster,
        &seen.map_or_else(|status| format!("Err({status:?})"), |_token| "Ok".to_owned()),
    );
}

/// One increment of a shared number below the limit by compare and swap; metrics count how it ended.
fn bump(key: &str, limit: u64) {
    let Ok((value, Some(cas))) = hostcalls::get_shared_data(key) else {
        return;
    };
    let number: u64 = value
        .and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok())
        .unwrap_or(0);
    if number >= limit {
        return;
    }
    let next = number.saturating_add(1).to_string();
    let metric = match host::set_shared_data(key, next.as_bytes(), cas) {
        0 => "probe_bump_won",
        _ => "probe_bump_lost",
    };
    if let Ok(id) = hostcalls::define_metric(MetricType::Counter, metric) {
        hostcalls::increment_metric(id, 1).unwrap_or(());
    }
}

#[expect(clippy::panic, reason = "what Envoy does after a trap is one of the questions")]
fn trap() -> ! {
    panic!("asked to")
}

fn show(seen: Result<Option<Vec<u8>>, Status>) -> String {
    match seen {
        Ok(Some(bytes)) => format!("\"{}\"", bytes.escape_ascii()),
        Ok(None) => "none".to_owned(),
        Err(status) => format!("Err({status:?})"),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
            .unwrap_or(0)
    };
    text.as_bytes()
        .chunks(2)
        .map(|pair| {
            pair.iter()
                .fold(0_u8, |byte, digit_byte| byte.wrapping_shl(4) | digit(*digit_byte))
        })
        .collect()
}
