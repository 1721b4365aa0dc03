//! Keeps tokens and tickets out of logs: the bytes of a credential have no `Debug` that shows them.

use std::fmt;
use std::rc::Rc;

/// Bytes of a credential, shared by its copies. Comparing is for tests of equality of steps, not for authentication.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Rc<[u8]>);

impl Secret {
    /// Takes the bytes in.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, where they must be sent or verified.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Rc<str>> for Secret {
    /// Shares the text, copies nothing.
    fn from(text: Rc<str>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}
