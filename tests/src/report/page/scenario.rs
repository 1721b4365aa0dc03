//! Writes one scenario: its picture, and its steps with what each leg carried.

use std::collections::BTreeSet;

use super::{cause_line, mark, remedy_line};
use crate::report::markup::Markup;
use crate::report::model::{Leg, Outcome, Record, Scenario, Step};
use crate::report::{timeline, words};

pub(super) fn scenario(main: &mut Markup, scenario: &Scenario, anchor: &str) {
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
            if let Some(cause) = step.cause.as_ref().filter(|_| !step.held) {
                cause_line(item, cause);
            }
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
