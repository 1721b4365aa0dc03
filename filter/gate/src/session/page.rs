//! Writes the pages of the filter's own: plain HTML, without a script, a style or a word of the client's.

use super::return_path::ReturnPath;

/// What a page says, and what it offers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Page<'p> {
    /// Nobody is logged out: to do that, by a button.
    LogOut,
    /// Logged out, and back by a link to there.
    LoggedOut(&'p ReturnPath),
    /// Logged out in this browser only: the broker could not be told.
    LoggedOutHere(&'p ReturnPath),
}

/// What a page may load and where it may be shown: nothing, and nowhere but in a window of its own. Its form goes to this host.
pub(crate) const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

impl Page<'_> {
    /// The page, whose links lead to paths behind `own`.
    pub(crate) fn html(self, own: &str) -> String {
        let (title, text, back) = match self {
            Self::LogOut => ("Log out", "", None),
            Self::LoggedOut(back) => ("Logged out", "<p>You are logged out.</p>\n", Some(back)),
            Self::LoggedOutHere(back) => (
                "Logged out of this browser",
                "<p>You are logged out of this browser. The service that keeps sessions could not be told: what was open elsewhere \
                 in your name ends by itself within minutes.</p>\n",
                Some(back),
            ),
        };
        let offer = match back {
            None => format!("<form method=\"post\" action=\"{own}/logout\"><button>Log out</button></form>\n"),
            Some(back) => format!(
                "<p><a href=\"{own}/login?return={}\">Log in again</a></p>\n",
                back.encoded()
            ),
        };
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title></head>\n\
             <body>\n<h1>{title}</h1>\n{text}{offer}</body>\n</html>\n"
        )
    }
}
