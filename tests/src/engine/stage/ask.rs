//! Says what somebody is to ask, and what came of it.

use super::{Stage, Stop};
use crate::apache;
use crate::curl::{Answer, Curl};
use crate::engine::kdc_relay::Asked;
use crate::engine::{Target, capture};
use crate::error::HarnessError;
use crate::kdc::Ccache;
use crate::relay::Recorded;
use crate::scripted_server::Incoming;
use crate::token::{self, Decoded};

/// A request that somebody is to make.
#[derive(Clone, Debug)]
pub struct Ask {
    pub(super) curl: Curl,
    pub(super) who: String,
}

impl Ask {
    /// With one more header line.
    #[must_use]
    pub fn header(mut self, line: &str) -> Self {
        self.curl = self.curl.header(line);
        self
    }

    /// By another method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.curl = self.curl.method(method);
        self
    }

    /// With one more argument for curl.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.curl = self.curl.arg(argument);
        self
    }

    /// Makes it without keeping what was carried: for what is tried many times.
    ///
    /// # Errors
    ///
    /// As [`Curl::send`].
    pub fn status(&self) -> Result<u16, HarnessError> {
        self.curl.send().map(|answer| answer.status)
    }

    /// Makes it without keeping what was carried, and returns the route by which the filter says that it decided.
    pub(super) fn route(&self) -> Result<Option<String>, HarnessError> {
        let answer = self.curl.send()?;
        let explained = answer.header("x-explain-kerbridge").unwrap_or_default();
        let parts = explained.split("; ").find_map(|part| part.strip_prefix("route="));
        Ok(parts.map(str::to_owned))
    }
}

impl Stage<'_> {
    /// A request without credentials.
    #[must_use]
    pub fn bare(&self, path: &str) -> Ask {
        let curl = match &*self.target {
            Target::Own(lab) => lab.world().curl(path),
            Target::Yours(yours) => yours.curl(path),
        };
        Ask {
            curl,
            who: "nobody".to_owned(),
        }
    }

    /// A request with a user's ticket.
    ///
    /// # Errors
    ///
    /// [`Stop::NotSeen`] where there is no ticket.
    pub fn with_ticket(&self, user: &str, path: &str) -> Result<Ask, Stop> {
        let curl = match &*self.target {
            Target::Own(lab) => lab.world().curl_as(user, path),
            Target::Yours(yours) => match &yours.no_ticket {
                Some((why, remedy)) => return Err(Stop::not_seen(why, remedy)),
                None => yours.curl_with_ticket(path),
            },
        };
        let who = self.who(user);
        Ok(Ask { curl, who })
    }

    /// A request with tickets of another cache than the user's own.
    ///
    /// # Errors
    ///
    /// [`Stop::NotSeen`] in front of somebody's own.
    pub fn with_cache(&mut self, user: &str, cache: &Ccache, path: &str) -> Result<Ask, Stop> {
        let world = self.lab()?.world();
        let config = world.kdc().krb5_config().as_os_str().to_owned();
        let environment = [
            ("KRB5_CONFIG", config),
            ("KRB5CCNAME", cache.path().as_os_str().to_owned()),
        ];
        let curl = world.curl(path).negotiate(environment);
        let who = self.who(user);
        Ok(Ask { curl, who })
    }

    /// A request with a token.
    #[must_use]
    pub fn with_token(&self, user: &str, token: &str, path: &str) -> Ask {
        let bare = self.bare(path);
        Ask {
            curl: bare.curl.bearer(token),
            who: self.who(user),
        }
    }

    /// A request with a cookie.
    #[must_use]
    pub fn with_cookie(&self, user: &str, cookie: &str, path: &str) -> Ask {
        let bare = self.bare(path);
        Ask {
            curl: bare.curl.header(&format!("cookie: {cookie}")),
            who: self.who(user),
        }
    }

    pub(super) fn who(&self, user: &str) -> String {
        if self.yours().is_some() {
            "you".to_owned()
        } else {
            user.to_owned()
        }
    }
}

/// An exchange of one credential for another.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Which broker was asked, counted from 0.
    pub broker: usize,
    /// What it was asked, and what it said.
    pub recorded: Recorded,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What the client got.
    pub answer: Answer,
    /// The exchanges at the brokers meanwhile.
    pub exchanges: Vec<Exchange>,
    /// What the KDC was asked meanwhile, where that is seen.
    pub kdc: Vec<Asked>,
    /// What the service behind Envoy received, where that is seen.
    pub received: Option<Incoming>,
    /// The word for the reason: the filter's own, or in a set-up of yours the client's.
    pub reason: Option<String>,
}

impl Seen {
    /// The token that came, in its header or its cookie.
    #[must_use]
    pub fn token(&self) -> Option<String> {
        let header = self.answer.header("x-kerbridge-token").map(str::to_owned);
        header.or_else(|| Some(self.cookie()?.split_once('=')?.1.to_owned()))
    }

    /// That token, read.
    #[must_use]
    pub fn decoded(&self) -> Option<Decoded> {
        token::decode(&self.token()?)
    }

    /// The cookie with a token that came, `NAME=TOKEN`.
    #[must_use]
    pub fn cookie(&self) -> Option<String> {
        let lines = self.answer.all("set-cookie").into_iter();
        let pairs = lines.filter_map(|line| line.split(';').next());
        pairs
            .filter(|pair| {
                pair.split_once('=')
                    .is_some_and(|(_, value)| token::decode(value).is_some())
            })
            .map(str::to_owned)
            .next()
    }

    /// All values of a header that the service received.
    #[must_use]
    pub fn received(&self, name: &str) -> Vec<String> {
        let values = self.received.iter().flat_map(|received| received.all(name));
        values
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    /// Whom Apache saw.
    #[must_use]
    pub fn remote_user(&self) -> Option<String> {
        apache::remote_user(&self.answer.json()).map(str::to_owned)
    }

    pub(super) fn told(&self) -> String {
        if self.answer.status == 0 {
            return capture::without_runs(&format!("no answer: {}", self.answer.complaint));
        }
        let reason = self.reason.as_ref().map(|reason| format!(" {reason}"));
        format!("{}{}", self.answer.status, reason.unwrap_or_default())
    }
}
