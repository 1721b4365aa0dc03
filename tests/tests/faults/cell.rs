//! Sends the request of a cell, and holds what came of it to the table.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kerbridge_tests::curl::{Answer, Curl};
use kerbridge_tests::faults::{Asked, Cell, Proof, Protocol, Row};
use kerbridge_tests::shipped::ISSUER;
use kerbridge_tests::token::with;
use kerbridge_tests::upstream::target;
use kerbridge_tests::wait::wait_for;
use serde_json::{Value, json};

use crate::answers::token;
use crate::harness::Plan;
use crate::stage::{Stage, WITHIN, issuer, place, rows};
use crate::{Check, same};

/// The cookie of the audience `orders`.
pub(crate) const COOKIE: &str = "__Host-kerbridge-00125d9250be8b4c";
const EMPTIED: &str = "__Host-kerbridge-00125d9250be8b4c=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax";
const MARK: &str = "__Host-kerbridge-logged-out=1; Path=/; Max-Age=300; Secure; HttpOnly; SameSite=Lax";
/// What every client has that opens a WebSocket.
pub(crate) const UPGRADE: [&str; 4] = [
    "connection: Upgrade",
    "upgrade: websocket",
    "sec-websocket-version: 13",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
];
/// Milliseconds that a busy machine may add to what the table says: fewer than the next longer wait.
const MARGIN: u64 = 1_800;
/// Cells that are tried at once.
const AT_ONCE: usize = 8;

/// The case that all cells of a line were counted.
pub(crate) fn counted_name(row: &Row) -> String {
    format!("{}/counted", place(row))
}

/// Where its request goes. No two are the same, so that each is found in logs.
fn path(cell: &Cell) -> String {
    if cell.row.asked == Asked::Logout {
        return format!("/.kerbridge/logout?{cell}");
    }
    let front = if cell.proof == Proof::Inverse {
        "/legacy"
    } else {
        "/faults"
    };
    format!("{front}/{cell}")
}

/// Shows what is to be shown.
pub(crate) fn show(curl: Curl, proof: Proof, token: &str) -> Curl {
    match proof {
        Proof::Bearer | Proof::Inverse => curl.bearer(token),
        Proof::Cookie => curl.header(&format!("cookie: {COOKIE}={token}")),
        Proof::Negotiate => curl.header("authorization: Negotiate YIIabcdefghijklmnopqrstuvwxyz"),
    }
}

/// Speaks as it is to be spoken.
pub(crate) fn speak(curl: Curl, protocol: Protocol) -> Curl {
    match protocol {
        Protocol::Http1 => curl,
        Protocol::Http2 => curl.http2(),
        // Without a message: behind an answer Envoy resets what has not come of one (RFC 9113 §8.1), and curl then loses the
        // answer.
        Protocol::Grpc => curl
            .http2()
            .method("POST")
            .header("content-type: application/grpc")
            .header("te: trailers"),
        Protocol::WebSocket => UPGRADE.iter().fold(curl, |curl, line| curl.header(line)),
    }
}

/// The cookies that a refusal sets. Whatever became of a logout, the browser is out.
fn left_behind(cell: &Cell) -> Vec<&'static str> {
    match (cell.row.asked, cell.proof) {
        (Asked::Logout, Proof::Cookie) => vec![EMPTIED, MARK],
        (Asked::Logout, _) => vec![MARK],
        (Asked::Exchange | Asked::Keys | Asked::Feed, _) => vec![],
    }
}

impl Stage {
    /// A request to this place, from a page of the same origin.
    pub(crate) fn request(&self, path: &str) -> Curl {
        let origin = self.world.url("").trim_end_matches('/').to_owned();
        self.world.curl(path).header(&format!("origin: {origin}"))
    }

    fn ask(&self, cell: &Cell) -> Answer {
        let audience = if cell.proof == Proof::Inverse {
            "legacy"
        } else {
            "orders"
        };
        let who = match cell.row.asked {
            Asked::Exchange | Asked::Logout => ISSUER.to_owned(),
            Asked::Keys | Asked::Feed => issuer(cell.row),
        };
        let is_logout = cell.row.asked == Asked::Logout;
        let token = token(&self.script.key, &who, audience, |claims| {
            if is_logout {
                with(claims, "jti", json!(cell.row.fault.name()))
            } else {
                claims
            }
        });
        let curl = speak(show(self.request(&path(cell)), cell.proof, &token), cell.protocol);
        let curl = if is_logout { curl.method("POST") } else { curl };
        curl.send().unwrap()
    }

    /// The access log's line for a path.
    pub(crate) fn logged(&self, path: &str) -> Value {
        wait_for(&format!("an access-log line for {path}"), WITHIN, || {
            self.world.access_lines().into_iter().find(|line| line["path"] == path)
        })
        .unwrap()
    }

    fn check(&self, cell: &Cell) -> Check {
        let answer = self.ask(cell);
        let (reason, path) = (cell.row.reason, path(cell));
        let is_grpc = cell.protocol == Protocol::Grpc;
        let status = if is_grpc { 200 } else { reason.status() };
        same("curl's exit code", &answer.exit, &0)?;
        same("the status", &answer.status, &status)?;
        if is_grpc {
            same(
                "grpc-status",
                &answer.header("grpc-status").map(str::to_owned),
                &Some(reason.grpc_status().to_string()),
            )?;
        }
        same("retry-after", &answer.all("retry-after"), &vec!["5"])?;
        same("cache-control", &answer.all("cache-control"), &vec!["no-store"])?;
        same("challenges", &answer.all("www-authenticate"), &vec![])?;
        same("cookies", &answer.all("set-cookie"), &left_behind(cell))?;
        same("a token", &answer.all("x-kerbridge-token"), &vec![])?;
        let line = self.logged(&path);
        same(
            "the response-code details",
            &line["details"].as_str().map(str::to_owned),
            &Some(format!("kerbridge_{reason}")),
        )?;
        let held = line["duration_ms"].as_u64().unwrap_or(u64::MAX);
        let may = u64::from(cell.row.held) * 1_000 + MARGIN;
        if held > may {
            return Err(format!("it was held for {held} ms, {may} at most"));
        }
        let arrived = self.service.requests();
        let arrived = arrived.iter().filter(|request| target(request) == path);
        same("requests that arrived", &arrived.count(), &0)
    }
}

/// Tries cells, those of one line at once.
pub(crate) fn run(stage: &Stage, cells: &[Cell], plan: &Plan, report: &mut dyn FnMut(&str, Check)) {
    for row in rows() {
        let of_row: Vec<&Cell> = cells.iter().filter(|cell| std::ptr::eq(cell.row, row)).collect();
        if of_row.is_empty() {
            continue;
        }
        let word = row.reason.as_str();
        let before = stage.counted(word);
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some(cell) = of_row.get(next.fetch_add(1, Ordering::SeqCst)) {
                        let checked = stage.check(cell);
                        done.lock().unwrap().push((cell.to_string(), checked));
                    }
                });
            }
        });
        for (name, checked) in done.into_inner().unwrap() {
            report(&name, checked);
        }
        let name = counted_name(row);
        if plan.wants(&name) {
            let counted = stage.counted(word) - before;
            report(
                &name,
                same("refusals that were counted", &counted, &(of_row.len() as u64)),
            );
        }
    }
}
