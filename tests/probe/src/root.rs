//! Runs the root's scripts: at configuration, on each tick, and when a callout of its own is answered.

use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{ContextType, LogLevel};

use crate::script::{self, State};
use crate::stream::Stream;

/// The plugin configuration.
#[derive(Default)]
pub(crate) struct Config {
    text: String,
}

impl Config {
    /// The value of a key; the last one where there are several.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.text
            .lines()
            .rev()
            .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))
    }
}

/// The root context of one plugin in one VM.
#[derive(Default)]
pub(crate) struct Root {
    config: Rc<Config>,
    state: State,
    ticks: u64,
}

impl Root {
    fn run(&mut self, key: &str) {
        let config = Rc::clone(&self.config);
        if let Some(script) = config.get(key) {
            script::run(script, &mut self.state);
            for line in self.state.transcript.drain(..) {
                log(&format!("{key} {line}"));
            }
        }
    }
}

/// A request that nobody looks at: what is left is the price of any module.
struct Empty;

impl Context for Empty {}

impl HttpContext for Empty {}

/// Writes one line to Envoy's log; a host that cannot log cannot be told so either.
pub(crate) fn log(line: &str) {
    hostcalls::log(LogLevel::Warn, &format!("probe: {line}")).unwrap_or(());
}

impl Context for Root {
    fn on_http_call_response(&mut self, _token: u32, headers: usize, body: usize, trailers: usize) {
        self.state.take_reply(headers, body, trailers);
        self.run("reply");
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let bytes = if size == 0 {
            None
        } else {
            self.get_plugin_configuration()
        };
        let text = bytes
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .unwrap_or_default();
        self.config = Rc::new(Config { text });
        if let Some(period) = self.config.get("period").and_then(|period| period.parse().ok()) {
            self.set_tick_period(Duration::from_millis(period));
        }
        self.run("configure");
        true
    }

    fn on_tick(&mut self) {
        self.ticks = self.ticks.saturating_add(1);
        self.state.ticks = self.ticks;
        self.run("tick");
    }

    fn create_http_context(&self, _context: u32) -> Option<Box<dyn HttpContext>> {
        match self.config.get("empty") {
            Some(_) => Some(Box::new(Empty)),
            None => Some(Box::new(Stream::new(Rc::clone(&self.config)))),
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
