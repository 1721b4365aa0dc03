//! Speaks as much HTTP/2 as it takes to send any header bytes, at any length, and to see the status (RFC 9113, RFC 7541).

use std::io::{Read, Write};

use crate::canary;
use crate::http::HttpError;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest frame that everybody takes (RFC 9113 §4.2).
const FRAME: usize = 16 * 1024;
/// The only stream.
const STREAM: u32 = 1;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response came, with this status.
    Status(u16),
    /// The stream or the connection was ended instead, with this error code (RFC 9113 §7).
    Ended(u32),
}

/// Sends one `GET` on a connection that nobody has used, and waits for the head of its response. Header lines go as they are,
/// in order, behind the pseudo-headers.
///
/// # Errors
///
/// Every [`HttpError`]; one that is closed without a word is [`HttpError::Closed`].
pub fn get(stream: &mut (impl Read + Write), path: &str, headers: &[(&[u8], &[u8])]) -> Result<Outcome, HttpError> {
    let mut block = Vec::new();
    let pseudo: [(&[u8], &[u8]); 4] = [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", b"localhost"),
        (b":path", path.as_bytes()),
    ];
    for (name, value) in pseudo.iter().chain(headers) {
        canary::note_header(name, value);
        // A literal without indexing, with a new name (RFC 7541 §6.2.2).
        block.push(0);
        push_text(&mut block, name);
        push_text(&mut block, value);
    }
    let mut out = PREFACE.to_vec();
    // No dynamic table: what comes back is read without one.
    push_frame(&mut out, SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
    let parts: Vec<&[u8]> = block.chunks(FRAME).collect();
    for (at, part) in parts.iter().enumerate() {
        let (kind, first) = if at == 0 {
            (HEADERS, END_STREAM)
        } else {
            (CONTINUATION, 0)
        };
        let is_last = at.saturating_add(1) == parts.len();
        let flags = first | if is_last { END_HEADERS } else { 0 };
        push_frame(&mut out, kind, flags, STREAM, part);
    }
    // The peer may answer, and close, before it has read all of it.
    if let Err(error) = stream.write_all(&out).and_then(|()| stream.flush())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        return Err(error.into());
    }
    read_outcome(stream)
}

fn read_outcome(stream: &mut (impl Read + Write)) -> Result<Outcome, HttpError> {
    loop {
        let mut head = [0_u8; 9];
        stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, ..] = head;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload)?;
        let word = |at: usize| {
            let bytes = payload.get(at..).and_then(|rest| rest.first_chunk::<4>());
            bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
        };
        match kind {
            SETTINGS if flags & ACK == 0 => {
                let mut out = Vec::new();
                push_frame(&mut out, SETTINGS, ACK, 0, &[]);
                stream.write_all(&out)?;
                stream.flush()?;
            }
            HEADERS => {
                return status(&payload)
                    .map(Outcome::Status)
                    .ok_or(HttpError::Malformed("status"));
            }
            RST_STREAM => return Ok(Outcome::Ended(word(0))),
            // After the last stream that is still answered.
            GOAWAY if word(0) < STREAM || word(4) != 0 => return Ok(Outcome::Ended(word(4))),
            _ => {}
        }
    }
}

fn push_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend(length.iter().skip(1));
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// A string literal, its length as an integer of seven bits and more (RFC 7541 §5.1, §5.2).
fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    match u8::try_from(text.len()) {
        Ok(short @ 0..127) => out.push(short),
        Ok(_) | Err(_) => {
            out.push(127);
            let mut rest = text.len().saturating_sub(127);
            while rest >= 128 {
                out.push(128 | u8::try_from(rest % 128).unwrap_or_default());
                rest /= 128;
            }
            out.push(u8::try_from(rest).unwrap_or_default());
        }
    }
    out.extend(text);
}

/// The `:status` at the beginning of a block of headers, behind updates of the table's size (RFC 7541 §6).
fn status(block: &[u8]) -> Option<u16> {
    let mut rest = block;
    while let [0x20..=0x3f, behind @ ..] = rest {
        rest = behind;
    }
    match rest {
        // Static table, 8 to 14.
        [0x88, ..] => Some(200),
        [0x89, ..] => Some(204),
        [0x8a, ..] => Some(206),
        [0x8b, ..] => Some(304),
        [0x8c, ..] => Some(400),
        [0x8d, ..] => Some(404),
        [0x8e, ..] => Some(500),
        // A literal value of a static name, with or without indexing: three digits, plain or by Huffman's code.
        [0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e, 3, digits @ ..] => {
            std::str::from_utf8(digits.get(..3)?).ok()?.parse().ok()
        }
        [0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e, length, coded @ ..] if length & 0x80 != 0 => {
            digits(coded.get(..usize::from(length & 0x7f))?)
        }
        _ => None,
    }
}

/// Three digits by Huffman's code: 0 to 2 are five bits, the others six (RFC 7541 appendix B).
fn digits(coded: &[u8]) -> Option<u16> {
    let mut bits = coded
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| u16::from(byte >> at & 1)));
    let mut number = 0_u16;
    for _ in 0..3 {
        let mut code = 0;
        for _ in 0..5 {
            code = code << 1 | bits.next()?;
        }
        let digit = if code < 3 {
            code
        } else {
            // 0x19 is a three.
            (code << 1 | bits.next()?).checked_sub(0x16)?
        };
        number = number.checked_mul(10)?.checked_add(digit)?;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_however_it_is_written() {
        for (block, expected) in [
            (&[0x88][..], Some(200)),
            (&[0x20, 0x8c, 0x61], Some(400)),
            (&[0x48, 3, b'4', b'0', b'1'], Some(401)),
            // 011010 00000 00001, 011010 011001 00001.
            (&[0x08, 0x82, 0x68, 0x01], Some(401)),
            (&[0x20, 0x48, 0x83, 0x69, 0x90, 0xff], Some(431)),
            (&[0x48, 0x82, 0x10, 0x01], Some(200)),
            (&[0x48, 0x82, 0x68], None),
            (&[0xbe], None),
            (&[], None),
        ] {
            assert_eq!(status(block), expected, "{block:x?}");
        }
    }

    #[test]
    fn a_long_text_has_its_length_before_it() {
        for (length, head) in [(3, &[3][..]), (127, &[127, 0]), (1337, &[127, 0xba, 0x09])] {
            let mut out = Vec::new();
            push_text(&mut out, &vec![b'x'; length]);
            assert_eq!(out.get(..head.len()), Some(head), "{length}");
            assert_eq!(out.len(), head.len() + length);
        }
    }
}
