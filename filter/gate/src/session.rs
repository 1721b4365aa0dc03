//! Answers the paths of the filter's own, on which a browser ends its session and begins another one, and says to a browser that
//! was logged out that it is.
//!
//! | request | answer |
//! |---|---|
//! | `GET …/logout` | a page with a button, or, for a while after a logout, one that says so |
//! | `POST …/logout` | the session is over: at the broker, and in the browser, which is marked as logged out for a while |
//! | `GET …/login?return=/path` | the mark goes, and the browser to that path, where its ticket logs it in |

mod logout;
mod page;
mod return_path;

use std::rc::Rc;

use kerbridge_wire::Reason;

pub use logout::PendingLogout;
pub(crate) use logout::{cookie_line, is_own_set_cookie};
pub(crate) use page::{CONTENT_SECURITY_POLICY, Page};
pub(crate) use return_path::ReturnPath;

use logout::SessionCookies;

use crate::refusal::{Asked, Body, LocalReply};
use crate::request::{LOGGED_OUT_COOKIE, RequestHead, Site, has_token_in_query};
use crate::route::path::unambiguous;
use crate::step::Step;

/// Header lines of an answer.
type Headers = Vec<(&'static str, String)>;

/// The paths of the filter's own. Built by the configuration only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPaths {
    /// What they begin with, without a slash at its end.
    pub(crate) path: Box<str>,
    /// Seconds.
    pub(crate) stay_out: u64,
}

impl OwnPaths {
    /// Answers a request below our path. Without TLS a browser keeps no cookie of ours.
    pub(crate) fn judge(self: &Rc<Self>, asked: Asked, head: &RequestHead<'_>) -> Step {
        if !asked.secure {
            return asked.refuse(Reason::InsecureTransport);
        }
        if has_token_in_query(head.path()) {
            return asked.refuse(Reason::TokenInQuery);
        }
        let path = unambiguous(head.path()).unwrap_or_default();
        let below = path.strip_prefix(self.path.as_bytes()).unwrap_or_default();
        match (head.method(), below) {
            (b"GET" | b"HEAD", b"/logout") => Step::Respond(self.show(asked, head)),
            (b"POST", b"/logout") => logout::begin(self, asked.for_logout(), head),
            (b"GET" | b"HEAD", b"/login") => self.log_in(asked, head),
            _ => asked.refuse(Reason::DeniedByPolicy),
        }
    }

    fn show(&self, asked: Asked, head: &RequestHead<'_>) -> LocalReply {
        let root = ReturnPath::root();
        let page = if head.was_logged_out() {
            Page::LoggedOut(&root)
        } else {
            Page::LogOut
        };
        asked.answer(200, Vec::new(), Body::Html(page.html(&self.path)))
    }

    /// Leads back to where its user wants to be logged in. Another site's page cannot do that in the user's place, and neither
    /// can a page's own image, script or look ahead: only a person goes somewhere. A session cookie that came after the logout
    /// goes with the mark: whose ticket is shown next decides who it is.
    fn log_in(&self, asked: Asked, head: &RequestHead<'_>) -> Step {
        if head.site() == Site::Foreign {
            return asked.refuse(Reason::CrossSite);
        }
        if !head.may_be_a_persons_step() {
            return asked.refuse(Reason::DeniedByPolicy);
        }
        let Some(back) = ReturnPath::asked_for(head.path(), &self.path) else {
            return asked.refuse(Reason::InvalidRequest);
        };
        let mut headers = vec![("location", back.as_str().to_owned())];
        if head.was_logged_out() {
            headers.extend(SessionCookies::of(head).emptied());
        }
        headers.push(("set-cookie", cookie_line(LOGGED_OUT_COOKIE, "", 0)));
        Step::Respond(asked.answer(303, headers, Body::Nothing))
    }

    /// The answer to a logout that was done. A page is fetched by another request, so that to load it again does no harm.
    fn logged_out(&self, asked: Asked, mut headers: Headers) -> LocalReply {
        if asked.wants_html() {
            headers.push(("location", format!("{}/logout", self.path)));
            asked.answer(303, headers, Body::Nothing)
        } else {
            asked.answer(200, headers, Body::Json("{\"logged_out\":true}\n".into()))
        }
    }

    /// The answer to one that was done in the browser only.
    fn logged_out_here(&self, asked: Asked, headers: Headers, reason: Reason) -> LocalReply {
        let page = asked
            .wants_html()
            .then(|| Page::LoggedOutHere(&ReturnPath::root()).html(&self.path));
        let mut reply = asked.reply(reason.into());
        reply.add_headers(headers);
        if let Some(page) = page {
            reply.show(page);
        }
        reply
    }
}
