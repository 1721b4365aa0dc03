//! Writes what stands above the scenarios: what came of the run, what it ran on, and what is to be mended.

use super::{anchor, cause_line, remedy_line};
use crate::report::markup::Markup;
use crate::report::model::{Outcome, Run, Step, Tally};
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
        if let Some(broken) = &run.setup.broken {
            header.element("p", &[("class", "broken")], &format!("Broken on purpose: {broken}"));
        }
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

/// A step that did not hold, and where it stands.
struct Found<'a> {
    target: String,
    about: String,
    step: &'a Step,
}

/// What one cause did: the steps at which it was seen, and those that did not hold after one of them.
struct Cause<'a> {
    cause: &'a str,
    seen: Vec<Found<'a>>,
    after: Vec<Found<'a>>,
}

/// What did not hold, by its causes, and what has no cause that is known.
fn not_held(run: &Run) -> (Vec<Cause<'_>>, Vec<Found<'_>>) {
    let (mut causes, mut others) = (Vec::<Cause<'_>>::new(), Vec::new());
    for (at, scenario) in run.scenarios.iter().enumerate() {
        // The last one that was seen in this scenario.
        let mut last = None;
        for (number, step) in scenario.steps.iter().enumerate().filter(|(_, step)| !step.held) {
            let found = Found {
                target: format!("#{}-{}", anchor(at, scenario), number.saturating_add(1)),
                about: format!("{}: {}", scenario.title, step.title),
                step,
            };
            let Some(cause) = &step.cause else {
                match last.and_then(|last: usize| causes.get_mut(last)) {
                    Some(before) => before.after.push(found),
                    None => others.push(found),
                }
                continue;
            };
            let place = causes.iter().position(|known| known.cause == cause);
            last = Some(place.unwrap_or(causes.len()));
            match place.and_then(|place| causes.get_mut(place)) {
                Some(known) => known.seen.push(found),
                None => causes.push(Cause {
                    cause,
                    seen: vec![found],
                    after: Vec::new(),
                }),
            }
        }
    }
    (causes, others)
}

/// A cause with its remedy, and below it, folded, where it was seen.
fn cause(list: &mut Markup, cause: &Cause<'_>) {
    list.within("li", &[], |item| {
        cause_line(item, cause.cause);
        let remedies = cause.seen.iter().filter_map(|found| found.step.remedy.as_ref());
        remedies.take(1).for_each(|remedy| remedy_line(item, remedy));
        let count = |found: &[Found<'_>]| words::counted(found.len(), "step", "steps");
        let mut summary = format!("Seen at {}", count(&cause.seen));
        if !cause.after.is_empty() {
            summary = format!("{summary}; {} after it did not hold either", count(&cause.after));
        }
        item.within("details", &[], |details| {
            details.element("summary", &[], &summary);
            details.within("ul", &[], |list| {
                for Found { target, about, step } in cause.seen.iter().chain(&cause.after) {
                    list.within("li", &[], |item| {
                        item.element("a", &[("href", target)], about);
                        item.element("p", &[], &step.seen);
                    });
                }
            });
        });
    });
}

/// What did not hold and what was not seen, each with what to do, before everything else.
pub(super) fn to_mend(main: &mut Markup, run: &Run) {
    let (causes, others) = not_held(run);
    if !(causes.is_empty() && others.is_empty()) {
        section(main, "mend failed", "mend", "What to mend", |list| {
            causes.iter().for_each(|one| cause(list, one));
            for Found { target, about, step } in others {
                list.within("li", &[], |item| {
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
