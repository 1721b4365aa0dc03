//! Writes what stands above the scenarios: what came of the run, what it ran on, and what is to be mended.

use super::{anchor, remedy_line};
use crate::report::markup::Markup;
use crate::report::model::{Outcome, Run, Tally};
use crate::report::words;

/// The parts of a tally: their classes in the style, their words and their numbers.
const fn parts(tally: Tally) -> [(&'static str, &'static str, usize); 3] {
    [
        ("held", "held", tally.held),
        ("failed", "did not hold", tally.failed),
        ("unseen", "not seen", tally.unseen),
    ]
}

pub(super) fn verdict(run: &Run) -> String {
    let Tally { held, failed, unseen } = run.tally();
    match (held, failed, unseen) {
        (0, 0, _) => "nothing was seen".to_owned(),
        (_, 0, 0) => "everything held".to_owned(),
        (_, 0, _) => "everything that was seen held".to_owned(),
        (_, 1, _) => "one scenario did not hold".to_owned(),
        (..) => format!("{failed} scenarios did not hold"),
    }
}

pub(super) fn header(body: &mut Markup, run: &Run) {
    let tally = run.tally();
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
            for (class, word, number) in parts(tally) {
                list.within("li", &[("class", class)], |item| {
                    item.element("b", &[], &number.to_string());
                    item.text(" ");
                    item.text(word);
                });
            }
        });
        share(header, tally, run.scenarios.len());
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
fn share(header: &mut Markup, tally: Tally, scenarios: usize) {
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
            for (class, _, number) in parts(tally) {
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

/// What did not hold and what was not seen, each with what to do, before everything else.
pub(super) fn to_mend(main: &mut Markup, run: &Run) {
    let not_held = || {
        let all = run.scenarios.iter().enumerate();
        all.flat_map(|(at, scenario)| {
            let steps = scenario.steps.iter().enumerate().filter(|(_, step)| !step.held);
            steps.map(move |(number, step)| (anchor(at, scenario), scenario, number.saturating_add(1), step))
        })
    };
    if not_held().next().is_some() {
        section(main, "mend failed", "mend", "What to mend", |list| {
            for (anchor, scenario, number, step) in not_held() {
                list.within("li", &[], |item| {
                    let target = format!("#{anchor}-{number}");
                    let about = format!("{}: {}", scenario.title, step.title);
                    item.element("a", &[("href", &target)], &about);
                    item.element("p", &[], &step.seen);
                    if let Some(remedy) = &step.remedy {
                        remedy_line(item, remedy);
                    }
                });
            }
        });
    }
    let unseen = || {
        let all = run.scenarios.iter().enumerate();
        all.filter_map(|(at, scenario)| match &scenario.outcome {
            Outcome::NotSeen { why, remedy } => Some((anchor(at, scenario), scenario, why, remedy)),
            Outcome::Passed | Outcome::Failed => None,
        })
    };
    if unseen().next().is_some() {
        section(main, "mend unseen", "unseen", "What was not seen", |list| {
            for (anchor, scenario, why, remedy) in unseen() {
                list.within("li", &[], |item| {
                    item.element("a", &[("href", &format!("#{anchor}"))], &scenario.title);
                    item.element("p", &[], why);
                    remedy_line(item, remedy);
                });
            }
        });
    }
    if !run.notices.is_empty() {
        section(main, "mend", "notices", "Notices", |list| {
            for notice in &run.notices {
                list.element("li", &[], notice);
            }
        });
    }
    main.line();
}

/// A list with its heading.
fn section(main: &mut Markup, class: &str, id: &str, heading: &str, items: impl FnOnce(&mut Markup)) {
    main.within("section", &[("class", class), ("aria-labelledby", id)], |section| {
        section.element("h2", &[("id", id)], heading);
        section.within("ul", &[], items);
    });
}
