//! Notes every credential that the fixtures send or receive, and finds it again in whatever the product prints.
//!
//! Tokens, tickets, cookies and handles are noted where they pass: [`crate::curl`], [`crate::http`], [`crate::http2`], and what
//! Envoy sends on in [`crate::scripted_server`]. What Envoy and the broker printed is searched when they end
//! ([`crate::process`]), Envoy's admin pages before it ends ([`crate::envoy`]), statistics and the bodies of refusals, the broker's too, when they
//! come. A find fails the test, whatever the test was about.
//!
//! A credential is noted in pieces of 32 characters, so that a cut one is found, too: any 63 characters in a row hold a
//! whole piece. The first characters, which a log may show to tell one kind from another, are not enough. A token's header
//! is no secret.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::error::HarnessError;

/// Characters of one piece.
const PIECE: usize = 32;
/// Bytes of a message in which credentials are looked for.
const MESSAGE: usize = 256 * 1024;
/// Header lines whose values are credentials, on requests and on responses.
const LINES: [&[u8]; 7] = [
    b"authorization",
    b"cookie",
    b"x-api-token",
    b"set-cookie",
    b"www-authenticate",
    b"x-kerbridge-token",
    b"proxy-authorization",
];
/// Parameters and members whose values are credentials, in queries, forms and JSON.
const PARAMETERS: [&[u8]; 7] = [
    b"access_token",
    b"subject_token",
    b"negotiate",
    b"continuation",
    b"id_token",
    // Names of documents begin with these words.
    b"token=",
    b"client_assertion=",
];

type Piece = [u8; PIECE];

/// All that this process has noted. Tests that run side by side search for each other's as well, which does no harm.
static NOTED: LazyLock<Mutex<HashSet<Piece>>> = LazyLock::new(Mutex::default);

fn noted() -> MutexGuard<'static, HashSet<Piece>> {
    NOTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What credentials are written in: base64 in both alphabets.
fn is_of_a_credential(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/_-".contains(&byte)
}

/// Runs of such characters that are long enough to hold a piece.
fn runs(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| !is_of_a_credential(*byte))
        .filter(|run| run.len() >= PIECE)
}

/// Notes a credential.
pub fn note(credential: &[u8]) {
    let header = credential.iter().position(|byte| *byte == b'.');
    let header = header.filter(|_| credential.starts_with(b"eyJ")).unwrap_or(0);
    let mut noted = noted();
    for run in runs(credential.get(header..).unwrap_or_default()) {
        noted.extend(run.chunks_exact(PIECE).filter_map(|piece| Piece::try_from(piece).ok()));
        noted.extend(run.last_chunk::<PIECE>());
    }
}

/// Notes the credentials of what is sent or received: header lines, the query, a form or JSON behind them. They stand at its
/// beginning: what is larger is an upload.
pub fn note_message(bytes: &[u8]) {
    let bytes = bytes.get(..MESSAGE).unwrap_or(bytes);
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Some(colon) = line.iter().position(|byte| *byte == b':') {
            let (name, value) = line.split_at(colon);
            note_header(name, value);
        }
    }
    for place in bytes.split(|byte| b"?&{,\n".contains(byte)) {
        let place = place.trim_ascii_start();
        let place = place.strip_prefix(b"\"").unwrap_or(place);
        for value in PARAMETERS.iter().filter_map(|name| place.strip_prefix(*name)) {
            // What stands between name and value is none of a credential's characters.
            for word in value.split(|byte| b"=:\" ".contains(byte)) {
                note(&percent_decoded(word));
            }
        }
    }
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut parts = text.split(|byte| *byte == b'%');
    let mut out = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        let digits = part.get(..2).and_then(|digits| crate::http::parse(digits, 16));
        let byte = digits.and_then(|byte| u8::try_from(byte).ok());
        out.extend(byte);
        out.extend_from_slice(part.get(2..).unwrap_or_default());
    }
    out
}

/// Notes a header line's value, where it is a credential.
pub fn note_header(name: &[u8], value: &[u8]) {
    if !LINES.iter().any(|line| name.trim_ascii().eq_ignore_ascii_case(line)) {
        return;
    }
    // Neither the scheme nor the name of a cookie is a secret.
    let is_cookie = name.to_ascii_lowercase().ends_with(b"cookie");
    // Nor is a parameter of a challenge, such as an address.
    let is_parameter = |word: &&[u8]| word.windows(2).any(|pair| pair == b"=\"");
    let words = value.split(|byte| b" ;,".contains(byte));
    for word in words.filter(|word| !is_parameter(word)) {
        let named = word.iter().position(|byte| *byte == b'=').filter(|_| is_cookie);
        note(word.get(named.unwrap_or(0)..).unwrap_or_default());
    }
}

/// A noted credential, or part of one, in this text: the place, and what stands before it.
#[must_use]
pub fn find(text: &[u8]) -> Option<String> {
    let noted = noted();
    runs(text).find_map(|run| {
        let at = run
            .windows(PIECE)
            .position(|window| Piece::try_from(window).is_ok_and(|piece| noted.contains(&piece)))?;
        // Slices of one text: where the run begins in it is the distance of their ends.
        let begins = run
            .as_ptr()
            .addr()
            .saturating_sub(text.as_ptr().addr())
            .saturating_add(at);
        let before = text.get(begins.saturating_sub(120)..begins).unwrap_or_default();
        Some(format!(
            "at byte {begins}, behind: …{}",
            String::from_utf8_lossy(before)
        ))
    })
}

/// The same in an error of OAuth's, but for the acceptor's token and the handle of a second leg, which the filter is to have.
#[must_use]
pub fn find_in_refusal(body: &[u8]) -> Option<String> {
    let Ok(mut refusal) = serde_json::from_slice::<serde_json::Value>(body) else {
        return find(body);
    };
    if let Some(members) = refusal.as_object_mut() {
        members.retain(|name, _| !["negotiate", "continuation"].contains(&name.as_str()));
    }
    find(refusal.to_string().as_bytes())
}

/// The same as an error.
///
/// # Errors
///
/// [`HarnessError::Leaked`].
pub fn search(what: &str, text: &[u8]) -> Result<(), HarnessError> {
    match find(text) {
        Some(place) => Err(HarnessError::Leaked {
            what: what.to_owned(),
            place,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{LabKey, claims};

    fn token(subject: &str) -> String {
        let key = LabKey::generate().unwrap();
        key.sign(&key.header(), &claims("https://id", subject, "orders", "read"))
            .unwrap()
    }

    #[test]
    fn a_token_that_was_sent_is_found_whole_and_in_part() {
        let (sent, other) = (token("canary-a"), token("canary-b"));
        note_message(format!("GET / HTTP/1.1\r\nHost: x\r\nauthorization: Bearer {sent}\r\n\r\n").as_bytes());
        let parts: Vec<&str> = sent.split('.').collect();
        for (what, text) in [
            ("whole", format!("token=\"{sent}\"")),
            ("its claims", format!("saw {}", parts[1])),
            ("its signature", format!("saw {} and more", parts[2])),
            (
                "the middle",
                format!("…{}…", parts[1].chars().skip(99).take(63).collect::<String>()),
            ),
        ] {
            assert!(find(text.as_bytes()).is_some(), "{what}");
            assert!(search(what, text.as_bytes()).is_err(), "{what}");
        }
        for (what, text) in [
            ("the header", parts[0]),
            ("a beginning", parts[1].split_at(12).0),
            ("another token's signature", other.rsplit('.').next().unwrap()),
            ("nothing", ""),
        ] {
            assert_eq!(find(text.as_bytes()), None, "{what}");
        }
    }

    #[test]
    fn credentials_are_found_wherever_they_pass() {
        let secret = |letter: char| -> String { (0..64).map(|at| if at % 7 == 0 { letter } else { 'q' }).collect() };
        for (letter, message) in [
            ('A', "Authorization: Negotiate SECRET=="),
            (
                'B',
                "cookie: theme=dark; __Host-kerbridge-00125d9250be8b4c=SECRET; lang=de",
            ),
            (
                'C',
                "set-cookie: __Host-kerbridge-00125d9250be8b4c=SECRET; Path=/; Max-Age=9",
            ),
            ('D', "GET /orders?x=1&access_token=SECRET HTTP/1.1"),
            ('E', "\r\n\r\ngrant_type=x&subject_token=SECRET&audience=orders"),
            ('I', "\r\n\r\nsubject_token=%53ECRET%3D%3D"),
            ('J', "\r\n\r\ntoken=SECRET&token_type_hint=access_token"),
            ('K', "\r\n\r\nclient_assertion_type=x&client_assertion=SECRET"),
            ('F', "{\"error\":\"invalid_grant\",\"negotiate\":\"SECRET\"}"),
            ('G', "{\"access_token\": \"SECRET\", \"token_type\":\"Bearer\"}"),
            ('H', "x-kerbridge-token: SECRET"),
        ] {
            let secret = secret(letter);
            let encoded = format!("%{:02X}{}", secret.as_bytes()[0], secret.split_at(1).1);
            let message = message.replace("%53ECRET", &encoded).replace("SECRET", &secret);
            note_message(message.as_bytes());
            let printed = format!("2026-11-25 [info] wasm log: {secret}");
            let place = find(printed.as_bytes()).unwrap_or_default();
            assert!(place.contains("wasm log: "), "{message}: {place}");
            // The name of our cookie is known to everybody.
            assert_eq!(find(b"cookie __Host-kerbridge-00125d9250be8b4c deleted"), None);
        }
    }
}
