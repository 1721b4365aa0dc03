//! Reads scopes: sets of words of RFC 6749 §3.3, in one canonical order.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A set of scopes; may be empty. At most 100 of at most 128 characters each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(BTreeSet<String>);

/// A word that is no scope, or too many of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScopeError {
    /// This word holds a character that no scope has, or is empty or too long.
    Word(String),
    /// More than 100.
    TooMany,
}

const MOST: usize = 100;
const LONGEST: usize = 128;

impl Scopes {
    /// Reads a list of words.
    pub fn from_list(words: &[String]) -> Result<Self, ScopeError> {
        words.iter().map(String::as_str).try_fold(Self::default(), Self::with)
    }

    fn with(mut self, word: &str) -> Result<Self, ScopeError> {
        // scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
        let good = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if word.is_empty() || word.len() > LONGEST || !word.bytes().all(good) {
            return Err(ScopeError::Word(word.chars().take(LONGEST).collect()));
        }
        self.0.insert(word.to_owned());
        if self.0.len() > MOST {
            return Err(ScopeError::TooMany);
        }
        Ok(self)
    }

    /// The words, in order.
    pub fn iter(&self) -> impl Iterator<Item = &String> {
        self.0.iter()
    }

    /// Whether this word is among them.
    pub fn contains(&self, word: &str) -> bool {
        self.0.contains(word)
    }

    /// Whether all of these are among those.
    pub fn is_subset(&self, others: &Self) -> bool {
        self.0.is_subset(&others.0)
    }
}

impl FromIterator<String> for Scopes {
    fn from_iter<I: IntoIterator<Item = String>>(words: I) -> Self {
        Self(words.into_iter().collect())
    }
}

impl FromStr for Scopes {
    type Err = ScopeError;

    /// Reads words that single spaces separate.
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        text.split(' ').try_fold(Self::default(), Self::with)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(word)?;
        }
        Ok(())
    }
}

impl fmt::Display for ScopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "{word:?} is no scope"),
            Self::TooMany => write!(f, "more than {MOST} scopes"),
        }
    }
}

impl std::error::Error for ScopeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_have_one_order_and_no_duplicates() {
        assert_eq!("b a b".parse::<Scopes>().unwrap().to_string(), "a b");
    }

    #[test]
    fn what_rfc_6749_does_not_allow_is_refused() {
        for text in ["", " ", "a  b", " a", "a\"", "a\\", "ä", "a\tb", &"x".repeat(129)] {
            assert!(text.parse::<Scopes>().is_err(), "{text}");
        }
        let many: Vec<String> = (0..101).map(|number| number.to_string()).collect();
        assert_eq!(Scopes::from_list(&many), Err(ScopeError::TooMany));
    }
}
