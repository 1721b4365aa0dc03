//! Builds the paths of the filter's own, and sees that no route lies there.

use std::rc::Rc;

use kerbridge_wire::filter_config::LogoutConfig;

use super::check::Check;
use crate::route::path::{PathPattern, unambiguous};
use crate::route::{HostMatch, Need, Route};
use crate::session::OwnPaths;

/// Longest path, so that the page's links and the log's lines stay short.
const PATH_LIMIT: usize = 64;
/// Seconds of a day.
const DAY: u32 = 24 * 60 * 60;

impl Check {
    /// The paths of the filter's own; `None` where there are none, which may be because nobody `can_log_out`.
    pub(super) fn own_paths(&mut self, raw: &LogoutConfig, can_log_out: bool) -> Option<Rc<OwnPaths>> {
        let LogoutConfig {
            enabled,
            path,
            stay_out,
        } = raw;
        // It stands in links and in headers as it is.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/.-_~".contains(&byte);
        let fits = (2..=PATH_LIMIT).contains(&path.len())
            && path.bytes().all(is_plain)
            && !path.ends_with('/')
            && unambiguous(path.as_bytes()).is_some();
        self.that(
            fits,
            "logout.path",
            "expected a path of at most 64 letters, digits and \"/.-_~\" without a slash at its end, such as \"/.kerbridge\"",
        );
        let stay_out = stay_out.seconds();
        self.that(
            (1..=DAY).contains(&stay_out),
            "logout.stay_out",
            "expected 1 second to 1 day",
        );
        (fits && *enabled && can_log_out).then(|| {
            Rc::new(OwnPaths {
                path: path.as_str().into(),
                stay_out: stay_out.into(),
            })
        })
    }

    /// Puts the route of the filter's own paths before all others.
    pub(super) fn reserve_paths(&mut self, own: &Rc<OwnPaths>, routes: &mut Vec<Rc<Route>>) {
        let Some(path) = PathPattern::prefix(&own.path) else {
            return;
        };
        let reserved = Route {
            name: (*own.path).into(),
            host: HostMatch::Every,
            path,
            methods: Vec::new(),
            need: Need::Own(Rc::clone(own)),
            cors_preflight: false,
            dry_run: false,
        };
        for (at, route) in routes.iter().enumerate() {
            self.that(
                !reserved.covers(route),
                &format!("routes[{at}]"),
                &format!(
                    "is never reached: below {:?} the filter answers by itself; `logout` has another `path`, or enabled = false",
                    own.path
                ),
            );
        }
        routes.insert(0, Rc::new(reserved));
    }
}
