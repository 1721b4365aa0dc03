//! Writes the body of an answer of our own, and the headers that say what it is.

use crate::session::CONTENT_SECURITY_POLICY;

/// What is in an answer of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Nothing.
    Nothing,
    /// One JSON object.
    Json(String),
    /// One plain line.
    Text(String),
    /// A page of ours.
    Html(String),
}

impl Body {
    /// The headers that go with it, and its bytes.
    pub(super) fn into_parts(self) -> (&'static [(&'static str, &'static str)], Vec<u8>) {
        match self {
            Self::Nothing => (&[], Vec::new()),
            Self::Json(text) => (&[("content-type", "application/json")], text.into_bytes()),
            Self::Text(text) => (&[("content-type", "text/plain; charset=utf-8")], text.into_bytes()),
            // A referrer policy that sent none would make browsers say `Origin: null` when the page's button is pressed.
            Self::Html(text) => (
                &[
                    ("content-type", "text/html; charset=utf-8"),
                    ("content-security-policy", CONTENT_SECURITY_POLICY),
                    ("x-content-type-options", "nosniff"),
                    ("referrer-policy", "same-origin"),
                ],
                text.into_bytes(),
            ),
        }
    }
}
