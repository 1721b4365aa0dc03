//! Runs a request's script, holds the request while a callout is open, and counts the callbacks that come meanwhile.

use std::rc::Rc;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, MapType};

use crate::root::{Config, log};
use crate::script::{self, State};

/// One request, or one attempt of it where the module is an upstream filter.
pub(crate) struct Stream {
    config: Rc<Config>,
    state: State,
}

impl Stream {
    pub(crate) fn new(config: Rc<Config>) -> Self {
        Self {
            config,
            state: State::default(),
        }
    }

    fn callback(&mut self, name: &str, detail: &str) -> Action {
        let line = format!("{name} {detail} waiting={}", self.state.waiting);
        log(&line);
        self.state.transcript.push(line);
        match self.config.get(name) {
            Some("pause") if self.state.waiting => Action::Pause,
            _ => Action::Continue,
        }
    }
}

impl Context for Stream {
    fn on_http_call_response(&mut self, _token: u32, headers: usize, body: usize, trailers: usize) {
        self.state.waiting = false;
        self.state.take_reply(headers, body, trailers);
        let config = Rc::clone(&self.config);
        script::run(config.get("reply").unwrap_or("answer"), &mut self.state);
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        let config = Rc::clone(&self.config);
        match config.get("headers") {
            Some(script) => script::run(script, &mut self.state),
            None => {
                let brought = hostcalls::get_map_value_bytes(MapType::HttpRequestHeaders, "x-probe")
                    .ok()
                    .flatten();
                let script = brought
                    .and_then(|bytes| String::from_utf8(bytes).ok())
                    .unwrap_or_default();
                script::run(&script, &mut self.state);
            }
        }
        if self.state.waiting || self.state.answered {
            Action::Pause
        } else {
            Action::Continue
        }
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        self.callback("body", &format!("size={size} end={end}"))
    }

    fn on_http_request_trailers(&mut self, count: usize) -> Action {
        self.callback("trailers", &format!("count={count}"))
    }

    fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
        let config = Rc::clone(&self.config);
        if let Some(script) = config.get("response") {
            script::run(script, &mut self.state);
            if self.state.answered {
                return Action::Pause;
            }
        }
        Action::Continue
    }
}
