//! Writes a run as one HTML page that needs nothing else: no network, no script, no other file.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

use super::markup::Markup;
use super::model::{Leg, Outcome, Record, Run, Scenario, Step};
use super::{timeline, words};

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

/// How many scenarios held, did not, and were not seen.
struct Tally {
    held: usize,
    failed: usize,
    unseen: usize,
}

impl Tally {
    fn of(run: &Run) -> Self {
        let mut tally = Self {
            held: 0,
            failed: 0,
            unseen: 0,
        };
        for scenario in &run.scenarios {
            let place = match scenario.outcome {
                Outcome::Passed => &mut tally.held,
                Outcome::Failed => &mut tally.failed,
                Outcome::NotSeen { .. } => &mut tally.unseen,
            };
            *place = place.saturating_add(1);
        }
        tally
    }

    const fn parts(&self) -> [(&'static str, &'static str, usize); 3] {
        [
            ("held", "held", self.held),
            ("failed", "did not hold", self.failed),
            ("unseen", "not seen", self.unseen),
        ]
    }
}

fn verdict(run: &Run) -> String {
    let Tally { held, failed, unseen } = Tally::of(run);
    match (held, failed, unseen) {
        (0, 0, _) => "nothing was seen".to_owned(),
        (_, 0, 0) => "everything held".to_owned(),
        (_, 0, _) => "everything that was seen held".to_owned(),
        (_, 1, _) => "one scenario did not hold".to_owned(),
        (..) => format!("{failed} scenarios did not hold"),
    }
}

fn header(body: &mut Markup, run: &Run) {
    let tally = Tally::of(run);
    let class = match (tally.held, tally.failed) {
        (0, 0) => "unseen",
        (_, 0) => "held",
        (..) => "failed",
    };
    body.within("header", &[("class", class)], |header| {
        header.element("p", &[("class", "kind")], "kerbridge lab report");
        header.element("h1", &[], &run.title);
        header.element("p", &[("class", "verdict")], &verdict(run));
        header.within("ul", &[("class", "tally")], |list| {
            for (class, word, number) in tally.parts() {
                list.within("li", &[("class", class)], |item| {
                    item.element("b", &[], &number.to_string());
                    item.text(" ");
                    item.text(word);
                });
            }
        });
        share(header, &tally, run.scenarios.len());
        header.within("dl", &[("class", "facts")], |facts| {
            let brokers = run.setup.brokers.to_string();
            for (name, value) in [
                ("Started", words::moment(run.started)),
                ("Took", words::duration(run.duration_ms)),
                (
                    "Set-up",
                    if run.setup.yours {
                        "your own, nothing changed there"
                    } else {
                        "the lab's"
                    }
                    .to_owned(),
                ),
                ("KDC", words::kdc(run.setup.kdc).to_owned()),
                ("Brokers", brokers),
                ("Store", words::store(run.setup.store).to_owned()),
            ] {
                fact(facts, name, &value);
            }
            for (name, version) in &run.setup.versions {
                fact(facts, name, version);
            }
        });
    });
    body.line();
}

fn fact(facts: &mut Markup, name: &str, value: &str) {
    facts.within("div", &[], |fact| {
        fact.element("dt", &[], name);
        fact.element("dd", &[], value);
    });
}

/// The tally as a bar; the numbers above say the same.
fn share(header: &mut Markup, tally: &Tally, scenarios: usize) {
    let part = |number: usize| {
        let [number, whole] = [number, scenarios.max(1)].map(|n| u32::try_from(n).map_or(0.0, f64::from));
        100.0 * number / whole
    };
    header.within(
        "svg",
        &[
            ("class", "share"),
            ("width", "100%"),
            ("height", "8"),
            ("aria-hidden", "true"),
        ],
        |svg| {
            let mut x = 0.0;
            for (class, _, number) in tally.parts() {
                let (from, width) = (format!("{x:.2}%"), format!("{:.2}%", part(number)));
                svg.empty(
                    "rect",
                    &[("class", class), ("x", &from), ("width", &width), ("height", "8")],
                );
                x += part(number);
            }
        },
    );
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

/// What did not hold and what was not seen, each with what to do, before everything else.
fn to_mend(main: &mut Markup, run: &Run) {
    let not_held = || {
        let all = run.scenarios.iter().enumerate();
        all.flat_map(|(at, scenario)| {
            let steps = scenario.steps.iter().enumerate().filter(|(_, step)| !step.held);
            steps.map(move |(number, step)| (anchor(at, scenario), scenario, number.saturating_add(1), step))
        })
    };
    if not_held().next().is_some() {
        main.within(
            "section",
            &[("class", "mend failed"), ("aria-labelledby", "mend")],
            |section| {
                section.element("h2", &[("id", "mend")], "What to mend");
                section.within("ul", &[], |list| {
                    for (anchor, scenario, number, step) in not_held() {
                        list.within("li", &[], |item| {
                            let target = format!("#{anchor}-{number}");
                            item.element(
                                "a",
                                &[("href", &target)],
                                &format!("{}: {}", scenario.title, step.title),
                            );
                            item.element("p", &[], &step.seen);
                            if let Some(remedy) = &step.remedy {
                                remedy_line(item, remedy);
                            }
                        });
                    }
                });
            },
        );
    }
    let unseen = || {
        run.scenarios
            .iter()
            .enumerate()
            .filter_map(|(at, scenario)| match &scenario.outcome {
                Outcome::NotSeen { why, remedy } => Some((anchor(at, scenario), scenario, why, remedy)),
                Outcome::Passed | Outcome::Failed => None,
            })
    };
    if unseen().next().is_some() {
        main.within(
            "section",
            &[("class", "mend unseen"), ("aria-labelledby", "unseen")],
            |section| {
                section.element("h2", &[("id", "unseen")], "What was not seen");
                section.within("ul", &[], |list| {
                    for (anchor, scenario, why, remedy) in unseen() {
                        list.within("li", &[], |item| {
                            item.element("a", &[("href", &format!("#{anchor}"))], &scenario.title);
                            item.element("p", &[], why);
                            remedy_line(item, remedy);
                        });
                    }
                });
            },
        );
    }
    if !run.notices.is_empty() {
        main.within(
            "section",
            &[("class", "mend"), ("aria-labelledby", "notices")],
            |section| {
                section.element("h2", &[("id", "notices")], "Notices");
                section.within("ul", &[], |list| {
                    for notice in &run.notices {
                        list.element("li", &[], notice);
                    }
                });
            },
        );
    }
    main.line();
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

fn remedy_line(out: &mut Markup, remedy: &str) {
    out.within("p", &[("class", "remedy")], |line| {
        line.element("b", &[], "Remedy: ");
        line.text(remedy);
    });
}

fn scenario(main: &mut Markup, scenario: &Scenario, anchor: &str) {
    let class = format!("scenario {}", words::outcome_class(&scenario.outcome));
    let heading = format!("{anchor}-heading");
    main.within(
        "section",
        &[("class", &class), ("id", anchor), ("aria-labelledby", &heading)],
        |section| {
            section.within("div", &[("class", "top")], |top| {
                top.within("h2", &[("id", &heading)], |title| {
                    mark(title, &scenario.outcome);
                    title.text(&scenario.title);
                });
                top.within("p", &[("class", "badge")], |badge| {
                    badge.text(words::outcome(&scenario.outcome));
                    badge.element("span", &[], &format!(" · {}", words::duration(scenario.duration_ms)));
                });
            });
            section.element("p", &[("class", "purpose")], &scenario.purpose);
            if let Outcome::NotSeen { why, remedy } = &scenario.outcome {
                section.within("div", &[("class", "why")], |box_| {
                    box_.element("p", &[], why);
                    remedy_line(box_, remedy);
                });
            }
            if !scenario.steps.is_empty() || !scenario.holdings.is_empty() {
                figure(section, scenario, anchor);
            }
            if !scenario.steps.is_empty() {
                section.element("h3", &[], "Expected and seen");
                section.within("ol", &[("class", "steps")], |list| {
                    for (at, one) in scenario.steps.iter().enumerate() {
                        step(list, one, at.saturating_add(1), anchor);
                    }
                });
            }
        },
    );
    main.line();
}

fn figure(section: &mut Markup, scenario: &Scenario, anchor: &str) {
    section.element("h3", &[], "Who held what, and what each leg carried");
    section.within("figure", &[], |figure| {
        timeline::draw(figure, scenario, anchor);
    });
    if !scenario.holdings.is_empty() {
        section.within("details", &[("class", "held-what")], |details| {
            details.element(
                "summary",
                &[],
                &format!(
                    "The {} in words",
                    words::counted(scenario.holdings.len(), "credential", "credentials")
                ),
            );
            details.within("ul", &[], |list| {
                for holding in &scenario.holdings {
                    list.within(
                        "li",
                        &[("class", words::credential_class(holding.credential))],
                        |item| {
                            item.element("span", &[], &timeline::held(holding));
                            if !holding.note.is_empty() {
                                item.element("code", &[], &holding.note);
                            }
                        },
                    );
                }
            });
        });
    }
}

fn step(list: &mut Markup, step: &Step, number: usize, anchor: &str) {
    let class = if step.held { "step held" } else { "step failed" };
    list.within(
        "li",
        &[("class", class), ("id", &format!("{anchor}-{number}"))],
        |item| {
            item.within("h4", &[], |title| {
                title.element(
                    "span",
                    &[("class", "number"), ("aria-hidden", "true")],
                    &number.to_string(),
                );
                title.element("span", &[("class", "what")], &step.title);
                title.element(
                    "span",
                    &[("class", "time")],
                    &format!("+{}", words::duration(step.at_ms)),
                );
            });
            item.within("dl", &[("class", "pair")], |pair| {
                pair.within("div", &[], |expected| {
                    expected.element("dt", &[], "Expected");
                    expected.element("dd", &[], &step.expected);
                });
                pair.within("div", &[("class", "seen")], |seen| {
                    seen.element(
                        "dt",
                        &[],
                        if step.held {
                            "Seen, as expected"
                        } else {
                            "Seen, not as expected"
                        },
                    );
                    seen.element("dd", &[], &step.seen);
                });
            });
            if let Some(remedy) = step.remedy.as_ref().filter(|_| !step.held) {
                remedy_line(item, remedy);
            }
            if !step.legs.is_empty() {
                // What did not hold is looked into at once.
                let open: &[(&str, &str)] = if step.held {
                    &[("class", "legs")]
                } else {
                    &[("class", "legs"), ("open", "")]
                };
                item.within("details", open, |details| {
                    details.element("summary", &[], &what_was_carried(step));
                    details.within("ol", &[], |legs| {
                        for one in &step.legs {
                            record(legs, one);
                        }
                    });
                });
            }
        },
    );
}

/// How many messages, and on which legs.
fn what_was_carried(step: &Step) -> String {
    let legs: BTreeSet<Leg> = step.legs.iter().map(|record| record.leg).collect();
    let legs: Vec<&str> = legs.into_iter().map(words::leg).collect();
    let messages = words::counted(step.legs.len(), "message", "messages");
    format!("{messages} on the legs: {}", legs.join(", "))
}

fn record(legs: &mut Markup, record: &Record) {
    legs.within("li", &[], |item| {
        item.within("p", &[], |line| {
            let ends = words::ends(record.leg);
            line.element(
                "span",
                &[("class", "badge-leg"), ("title", ends)],
                words::leg(record.leg),
            );
            line.element("span", &[("class", "way")], words::direction(record.direction));
            line.element("span", &[("class", "what")], &record.summary);
            line.element(
                "span",
                &[("class", "time")],
                &format!("+{}", words::duration(record.at_ms)),
            );
        });
        if !record.lines.is_empty() {
            item.element("pre", &[], &record.lines.join("\n"));
        }
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
