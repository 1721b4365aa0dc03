//! Writes a run as one HTML page that needs nothing else: no network, no script, no other file.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

use super::markup::Markup;
use super::model::{Outcome, Run, Scenario};
use super::words;

mod scenario;
mod summary;

use scenario::scenario;
use summary::{header, to_mend, verdict};

/// The one style; the page's policy names its hash, and nothing else is let in.
const STYLE: &str = include_str!("page.css");

/// The page.
#[must_use]
pub fn page(run: &Run) -> String {
    let hash = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    let policy =
        format!("default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'");
    let mut out = Markup::beginning("<!doctype html>\n");
    out.within("html", &[("lang", "en")], |html| {
        html.within("head", &[], |head| {
            head.empty("meta", &[("charset", "utf-8")]);
            head.empty(
                "meta",
                &[("http-equiv", "Content-Security-Policy"), ("content", &policy)],
            );
            head.empty(
                "meta",
                &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")],
            );
            head.empty("meta", &[("name", "color-scheme"), ("content", "light dark")]);
            head.empty("link", &[("rel", "icon"), ("href", "data:,")]);
            head.element("title", &[], &format!("{}: {}", run.title, verdict(run)));
            head.within("style", &[], |style| style.verbatim(STYLE));
        });
        html.line();
        html.within("body", &[], |body| {
            body.element("a", &[("class", "skip"), ("href", "#scenarios")], "To the scenarios");
            header(body, run);
            body.within("div", &[("class", "columns")], |columns| {
                index(columns, run);
                columns.within("main", &[("id", "scenarios")], |main| {
                    to_mend(main, run);
                    key(main);
                    for (at, one) in run.scenarios.iter().enumerate() {
                        scenario(main, one, &anchor(at, one));
                    }
                });
            });
            footer(body, run);
        });
    });
    out.line();
    out.finish()
}

/// Where a scenario stands on the page: its name, where that can be one.
fn anchor(at: usize, scenario: &Scenario) -> String {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !scenario.name.is_empty() && scenario.name.bytes().all(fits) {
        format!("scenario-{}", scenario.name)
    } else {
        format!("scenario-{}", at.saturating_add(1))
    }
}

fn index(columns: &mut Markup, run: &Run) {
    columns.within("nav", &[("aria-label", "Scenarios")], |nav| {
        nav.within("ol", &[], |list| {
            for (at, scenario) in run.scenarios.iter().enumerate() {
                list.within("li", &[("class", words::outcome_class(&scenario.outcome))], |item| {
                    let target = format!("#{}", anchor(at, scenario));
                    item.within("a", &[("href", &target)], |link| {
                        mark(link, &scenario.outcome);
                        link.element("span", &[("class", "name")], &scenario.title);
                        link.element("span", &[("class", "time")], &words::duration(scenario.duration_ms));
                    });
                });
            }
        });
    });
    columns.line();
}

/// What came of a scenario, as a sign of its own shape.
fn mark(out: &mut Markup, outcome: &Outcome) {
    let path = match outcome {
        Outcome::Passed => "M3.5 8.5 L6.5 11.5 L12.5 4.5",
        Outcome::Failed => "M4 4 L12 12 M12 4 L4 12",
        Outcome::NotSeen { .. } => "M4 8 L12 8",
    };
    let class = format!("mark {}", words::outcome_class(outcome));
    let label = words::outcome(outcome);
    let attributes = [
        ("class", class.as_str()),
        ("viewBox", "0 0 16 16"),
        ("width", "16"),
        ("height", "16"),
        ("role", "img"),
        ("aria-label", label),
    ];
    out.within("svg", &attributes, |svg| svg.empty("path", &[("d", path)]));
}

/// How the pictures are read, once for all of them.
fn key(main: &mut Markup) {
    main.within("section", &[("class", "key"), ("aria-labelledby", "key")], |section| {
        section.element("h2", &[("id", "key")], "How to read a timeline");
        section.within("ul", &[], |list| {
            for (class, path, words) in [
                ("ticket", "M0 3 h22 v10 h-22 z", "a credential in somebody's hands"),
                ("token", "M0 3 h16 v10 h-16 z M15 3 L23 8 L15 13 z", "held on when the scenario ended"),
                ("ap-req", "M11 1 L18 8 L11 15 L4 8 z", "good once, when it was shown"),
                ("request", "M7 3 L15 8 L7 13 z", "a request on a leg"),
                ("response", "M15 3 L7 8 L15 13 z", "its answer"),
            ] {
                list.within("li", &[("class", class)], |item| {
                    let size = [("width", "24"), ("height", "16"), ("aria-hidden", "true")];
                    item.within("svg", &size, |svg| svg.empty("path", &[("class", "bar"), ("d", path)]));
                    item.text(words);
                });
            }
        });
        section.element(
            "p",
            &[],
            "Numbers are the steps below each picture, with the time since the scenario began. Steps have the same room, however long they took.",
        );
    });
}

fn cause_line(out: &mut Markup, cause: &str) {
    out.within("p", &[("class", "cause")], |line| {
        line.element("b", &[], "Cause: ");
        line.text(cause);
    });
}

fn remedy_line(out: &mut Markup, remedy: &str) {
    out.within("p", &[("class", "remedy")], |line| {
        line.element("b", &[], "Remedy: ");
        line.text(remedy);
    });
}

fn footer(body: &mut Markup, run: &Run) {
    body.within("footer", &[], |footer| {
        let total = words::counted(run.scenarios.len(), "scenario", "scenarios");
        footer.element(
            "p",
            &[],
            &format!("{total}. Credentials are masked: of each its first characters and its length are left, and nothing that opens anything. run.json beside this page has the same."),
        );
    });
}
