//! Reads and writes the name of a service that speaks Kerberos, as policy and filter name it: `HTTP/legacy.example.com@EXAMPLE.COM`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A service principal for which tickets may be had in a user's name: service, host, perhaps a port, realm. No escapes, so
/// that all who read it read the same name; none of the KDC's own services.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spn(Box<str>);

/// The text is no such name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpnError {
    /// Not `service/host@REALM`, or longer than 255 characters.
    Form,
    /// A service of the KDC: with a ticket for it in a user's name one would be that user everywhere.
    OfTheKdc,
}

/// Services of a KDC (RFC 4120 §7.3, RFC 3244).
const OF_THE_KDC: [&str; 3] = ["krbtgt", "kadmin", "changepw"];

impl Spn {
    /// Longest name, in characters.
    pub const LONGEST: usize = 255;

    /// The whole name.
    pub const fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, without a port.
    pub fn host(&self) -> &str {
        self.0.split(['/', ':', '@']).nth(1).unwrap_or_default()
    }
}

impl FromStr for Spn {
    type Err = SpnError;

    fn from_str(text: &str) -> Result<Self, SpnError> {
        let (name, realm) = text.split_once('@').ok_or(SpnError::Form)?;
        let (service, place) = name.split_once('/').ok_or(SpnError::Form)?;
        let (host, port) = place.split_once(':').unwrap_or((place, "0"));
        let is_word = |word: &str| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        let is_port = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
        if text.len() > Self::LONGEST || ![service, host, realm].into_iter().all(is_word) || !is_port {
            return Err(SpnError::Form);
        }
        if OF_THE_KDC.iter().any(|own| own.eq_ignore_ascii_case(service)) {
            return Err(SpnError::OfTheKdc);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Spn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "expected a service principal such as \"HTTP/legacy.example.com@EXAMPLE.COM\"",
            Self::OfTheKdc => "expected a service other than krbtgt, kadmin and changepw, which are the KDC's own",
        })
    }
}

impl std::error::Error for SpnError {}

impl Serialize for Spn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Spn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(SpnVisitor)
    }
}

/// Refuses within the value, so that a reader with positions names the place of the name and not of what is around it.
struct SpnVisitor;

impl de::Visitor<'_> for SpnVisitor {
    type Value = Spn;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a service principal such as \"HTTP/legacy.example.com@EXAMPLE.COM\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Spn, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_back() {
        for text in [
            "HTTP/legacy.example.com@EXAMPLE.COM",
            "http/legacy.example.com:8080@EXAMPLE.COM",
            "HTTP/localhost@LAB.TEST",
            "svc_1/a-b@r",
        ] {
            let spn: Spn = serde_json::from_value(text.into()).unwrap();
            assert_eq!((spn.as_str(), spn.to_string().as_str()), (text, text));
            assert_eq!(serde_json::to_value(&spn).unwrap(), text);
        }
    }

    #[test]
    fn a_host_is_named_without_its_port() {
        for text in ["HTTP/legacy.example.com@R", "http/legacy.example.com:8080@R"] {
            assert_eq!(text.parse::<Spn>().unwrap().host(), "legacy.example.com", "{text}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_name() {
        let long = format!("HTTP/{}@R", "a".repeat(Spn::LONGEST));
        for text in [
            "",
            "HTTP",
            "HTTP/host",
            "HTTP@R",
            "HTTP/@R",
            "/host@R",
            "HTTP/host@",
            "HTTP/host@R@S",
            "HTTP/host/x@R",
            "HTTP/host\\@R",
            "HTTP/ho st@R",
            "HTTP/h\u{f6}st@R",
            "HTTP/host:@R",
            "HTTP/host:80:80@R",
            "HTTP/host:123456@R",
            "HTTP/host:x@R",
            "HTTP/host@R\n",
            &long,
        ] {
            assert_eq!(text.parse::<Spn>(), Err(SpnError::Form), "{text}");
        }
    }

    #[test]
    fn a_service_of_the_kdc_is_no_target() {
        for text in [
            "krbtgt/R@R",
            "KRBTGT/OTHER@R",
            "kadmin/changepw@R",
            "kadmin/admin@R",
            "changepw/kdc@R",
        ] {
            assert_eq!(text.parse::<Spn>(), Err(SpnError::OfTheKdc), "{text}");
        }
    }
}
