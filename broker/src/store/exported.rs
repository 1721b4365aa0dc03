//! Writes what a store holds as lines of JSON, to be kept and to be brought into another store; says where a text is not whole.
//!
//! The first line names the format and the store; then come revocations and used tickets, a line each; the last line counts them
//! and has the SHA-256 of all before it, so that half a file is never taken for a whole one. There is no secret in it: used
//! tickets are hashes. docs/store.md describes it.

use std::fmt;
use std::io::{self, BufRead, Read as _, Write};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kerbridge_wire::feed::{ENTRIES_LIMIT, Epoch};
use ring::digest;
use serde::{Deserialize, Serialize};

use super::{Kind, Position, ReplayTag, Revocation, Target};
use crate::time::UnixTime;

/// What this release writes and reads.
const FORMAT: u32 = 1;
/// The longest line: a value of 1024 bytes of which each is escaped.
const LONGEST: u64 = 16 * 1024;

/// All that a store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Where it stood. Whoever brings it into another store begins a new epoch.
    pub position: Position,
    /// Until when any token may be valid that was minted so far.
    pub tokens_end: UnixTime,
    /// What is revoked, and when that was done, in the order of their versions.
    pub revoked: Vec<(Revocation, UnixTime)>,
    /// Tickets that were used, and how long that must be known.
    pub used: Vec<(ReplayTag, UnixTime)>,
}

/// Where a text is no export.
#[derive(Debug)]
pub struct NotAnExport {
    line: u64,
    what: Wrong,
}

#[derive(Debug)]
enum Wrong {
    Io(io::Error),
    Format(u32),
    Line(&'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    KerbridgeStore {
        format: u32,
        epoch: Epoch,
        version: u64,
        tokens_end: u64,
    },
    Revoked {
        kind: Kind,
        value: String,
        issued_at_or_before: Option<u64>,
        needed_until: Option<u64>,
        at: u64,
    },
    Used {
        tag: String,
        until: u64,
    },
    End {
        revoked: u64,
        used: u64,
        sha256: String,
    },
}

impl Exported {
    /// Writes it.
    pub fn write(&self, to: impl Write) -> io::Result<()> {
        let Self {
            position,
            tokens_end,
            revoked,
            used,
        } = self;
        let mut to = Hashing {
            to,
            hash: digest::Context::new(&digest::SHA256),
        };
        to.line(&Line::KerbridgeStore {
            format: FORMAT,
            epoch: position.epoch,
            version: position.version,
            tokens_end: tokens_end.seconds(),
        })?;
        for (revocation, at) in revoked {
            to.line(&Line::Revoked {
                kind: revocation.target.kind(),
                value: revocation.target.value().to_owned(),
                issued_at_or_before: revocation.issued_at_or_before.map(UnixTime::seconds),
                needed_until: revocation.needed_until.map(UnixTime::seconds),
                at: at.seconds(),
            })?;
        }
        for (tag, until) in used {
            to.line(&Line::Used {
                tag: URL_SAFE_NO_PAD.encode(tag.as_bytes()),
                until: until.seconds(),
            })?;
        }
        let sha256 = URL_SAFE_NO_PAD.encode(to.hash.clone().finish());
        to.line(&Line::End {
            revoked: revoked.len() as u64,
            used: used.len() as u64,
            sha256,
        })?;
        to.to.flush()
    }

    /// Reads all of it, or says where it is wrong.
    pub fn read(from: impl BufRead) -> Result<Self, NotAnExport> {
        let mut reader = Reader {
            from,
            number: 0,
            hash: digest::Context::new(&digest::SHA256),
        };
        let mut exported = match reader.next()? {
            Line::KerbridgeStore {
                format: FORMAT,
                epoch,
                version,
                tokens_end,
            } => Self {
                position: Position { epoch, version },
                tokens_end: UnixTime::from_seconds(tokens_end),
                revoked: Vec::new(),
                used: Vec::new(),
            },
            Line::KerbridgeStore { format, .. } => return Err(reader.wrong(Wrong::Format(format))),
            Line::Revoked { .. } | Line::Used { .. } | Line::End { .. } => {
                return Err(reader.line("the first line is missing"));
            }
        };
        loop {
            let before = reader.hash.clone();
            match reader.next()? {
                Line::KerbridgeStore { .. } => return Err(reader.line("a first line again")),
                Line::Revoked {
                    kind,
                    value,
                    issued_at_or_before,
                    needed_until,
                    at,
                } => {
                    if exported.revoked.len() as u64 >= u64::from(ENTRIES_LIMIT) {
                        return Err(reader.line("more revocations than a feed may have"));
                    }
                    let revocation = Revocation {
                        target: Target::known(kind, &value)
                            .map_err(|_| reader.line("no value that a claim can have"))?,
                        issued_at_or_before: issued_at_or_before.map(UnixTime::from_seconds),
                        needed_until: needed_until.map(UnixTime::from_seconds),
                    };
                    exported.revoked.push((revocation, UnixTime::from_seconds(at)));
                }
                Line::Used { tag, until } => {
                    let tag = URL_SAFE_NO_PAD.decode(tag).ok().and_then(|tag| tag.try_into().ok());
                    let tag = tag.ok_or_else(|| reader.line("a tag is not 32 bytes long"))?;
                    exported
                        .used
                        .push((ReplayTag::from_bytes(tag), UnixTime::from_seconds(until)));
                }
                Line::End { revoked, used, sha256 } => {
                    let found = (exported.revoked.len() as u64, exported.used.len() as u64);
                    if (revoked, used) != found {
                        return Err(reader.line("lines are missing, or are too many"));
                    }
                    if sha256 != URL_SAFE_NO_PAD.encode(before.finish()) {
                        return Err(reader.line("the lines before were changed"));
                    }
                    return reader.at_end().map(|()| exported);
                }
            }
        }
    }
}

struct Hashing<W> {
    to: W,
    hash: digest::Context,
}

impl<W: Write> Hashing<W> {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.hash.update(&text);
        self.to.write_all(&text)
    }
}

struct Reader<R> {
    from: R,
    number: u64,
    /// Of all lines read.
    hash: digest::Context,
}

impl<R: BufRead> Reader<R> {
    fn next(&mut self) -> Result<Line, NotAnExport> {
        self.number = self.number.saturating_add(1);
        let mut text = Vec::new();
        let read = self.from.by_ref().take(LONGEST).read_until(b'\n', &mut text);
        read.map_err(|error| self.wrong(Wrong::Io(error)))?;
        if !text.ends_with(b"\n") {
            return Err(self.line(if text.is_empty() {
                "the last line is missing"
            } else {
                "it is not whole"
            }));
        }
        self.hash.update(&text);
        serde_json::from_slice(&text).map_err(|_| self.line("it is no line of an export"))
    }

    fn at_end(&mut self) -> Result<(), NotAnExport> {
        match self.from.fill_buf() {
            Ok([]) => Ok(()),
            Ok(_) => Err(self.line("something follows the last line")),
            Err(error) => Err(self.wrong(Wrong::Io(error))),
        }
    }

    const fn line(&self, what: &'static str) -> NotAnExport {
        self.wrong(Wrong::Line(what))
    }

    const fn wrong(&self, what: Wrong) -> NotAnExport {
        NotAnExport {
            line: self.number,
            what,
        }
    }
}

impl fmt::Display for NotAnExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.what {
            Wrong::Io(error) => error.fmt(f),
            Wrong::Format(found) => write!(f, "it has format {found}, and this release knows {FORMAT}"),
            Wrong::Line(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for NotAnExport {}

#[cfg(test)]
mod tests {
    use kerbridge_wire::feed::Hex;

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(seconds)
    }

    fn exported() -> Exported {
        let revoked = |kind, value, before: Option<u64>, until: Option<u64>| {
            let revocation = Revocation {
                target: Target::new(kind, value).unwrap(),
                issued_at_or_before: before.map(at),
                needed_until: until.map(at),
            };
            (revocation, at(7))
        };
        Exported {
            position: Position {
                epoch: Hex([3; 16]),
                version: 9,
            },
            tokens_end: at(5000),
            revoked: vec![
                revoked(Kind::Subject, "alice@A.TEST", None, None),
                revoked(Kind::Session, "\"\\\u{e9}", Some(4), Some(90)),
                revoked(Kind::Token, &"x".repeat(1024), None, Some(90)),
            ],
            used: vec![(ReplayTag::of(b"one"), at(50)), (ReplayTag::of(b"two"), at(60))],
        }
    }

    fn text(exported: &Exported) -> String {
        let mut text = Vec::new();
        exported.write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again_and_its_form_is_that_of_the_document() {
        let exported = exported();
        let text = text(&exported);
        assert_eq!(Exported::read(text.as_bytes()).unwrap(), exported);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..2],
            [
                r#"{"kerbridge_store":{"format":1,"epoch":"03030303030303030303030303030303","version":9,"tokens_end":5000}}"#,
                r#"{"revoked":{"kind":"subject","value":"alice@A.TEST","issued_at_or_before":null,"needed_until":null,"at":7}}"#,
            ]
        );
        assert!(
            lines[5].starts_with(r#"{"used":{"tag":""#) && lines[6].starts_with(r#"{"end":{"revoked":3,"used":2,"#)
        );
    }

    #[test]
    fn what_a_store_holds_is_read_again_though_it_looks_like_a_token() {
        let mut exported = exported();
        let value = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl";
        assert!(Target::new(Kind::Token, value).is_err());
        exported.revoked[0].0.target = Target::known(Kind::Token, value).unwrap();
        assert_eq!(Exported::read(text(&exported).as_bytes()).unwrap(), exported);
    }

    #[test]
    fn no_part_of_an_export_is_taken_for_all_of_it() {
        let text = text(&exported());
        for length in 0..text.len() {
            if text.is_char_boundary(length) {
                assert!(Exported::read(&text.as_bytes()[..length]).is_err(), "{length}");
            }
        }
        let lines: Vec<&str> = text.lines().collect();
        for gone in 0..lines.len() {
            let mut fewer = lines.clone();
            fewer.remove(gone);
            assert!(Exported::read((fewer.join("\n") + "\n").as_bytes()).is_err(), "{gone}");
        }
        for (from, to, says) in [
            ("alice", "alicf", "line 7: the lines before were changed"),
            (
                "\"format\":1",
                "\"format\":2",
                "line 1: it has format 2, and this release knows 1",
            ),
            (
                "\"kind\":\"sid\"",
                "\"kind\":\"sud\"",
                "line 3: it is no line of an export",
            ),
            ("\"at\":7", "\"at\":7,\"more\":1", "line 2: it is no line of an export"),
        ] {
            let error = Exported::read(text.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), says);
        }
        let more = format!("{text}{{}}");
        assert!(Exported::read(more.as_bytes()).is_err());
        let long = format!("{}\n", "x".repeat(100_000));
        assert_eq!(
            Exported::read(long.as_bytes()).unwrap_err().to_string(),
            "line 1: it is not whole"
        );
    }
}
