//! Draws one scenario: who held which credential and when, and what each leg carried meanwhile.
//!
//! Everything stands at a percentage of the width and a pixel of the height, so that the picture fits any width and its text stays
//! as large as other text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::markup::Markup;
use super::model::{Direction, Holding, Leg, Record, Scenario, Step};
use super::words;

/// A name, and its bar or its marks below it.
const LANE: u64 = 38;
/// The numbers of steps and their times.
const HEAD: u64 = 42;
/// More do not fit beside each other on the narrowest screen; two rows take them in turn.
const STEPS_IN_A_ROW: usize = 6;
/// As many characters as fit on the narrowest screen.
const LABEL: usize = 50;

/// Where each moment stands. Each step has the same room; within it, the room between two moments grows with the logarithm of the time
/// between them, since much happens at once and a long wait says nothing.
struct Scale(BTreeMap<u64, f64>);

impl Scale {
    /// Room at both sides for a mark that stands at an end, in percent.
    const MARGIN: f64 = 4.0;
    /// What is before the first step needs less room than a step.
    const BEFORE: f64 = 0.3;

    fn of(scenario: &Scenario) -> Self {
        let mut moments = BTreeSet::from([0, scenario.duration_ms]);
        for holding in &scenario.holdings {
            moments.insert(holding.from_ms);
            moments.insert(end_of(holding, scenario.duration_ms));
        }
        let records = scenario.steps.iter().flat_map(|step| &step.legs);
        moments.extend(records.map(|record| record.at_ms));
        let steps: BTreeSet<u64> = scenario.steps.iter().map(|step| step.at_ms).collect();
        moments.extend(&steps);

        let (mut places, mut whole) = (BTreeMap::new(), 0.0);
        let mut starts: Vec<u64> = steps.iter().copied().collect();
        if moments.first() != steps.first() {
            starts.insert(0, 0);
        }
        for (at, start) in starts.iter().enumerate() {
            let next = starts.get(at.saturating_add(1)).copied();
            let inside: Vec<u64> = moments
                .range(start..)
                .copied()
                .take_while(|moment| next.is_none_or(|next| *moment <= next))
                .collect();
            let is_step = steps.contains(start) && inside.len() > 1;
            let room = if is_step { 1.0 } else { Self::BEFORE };
            let gaps: Vec<f64> = inside
                .windows(2)
                .map(|pair| {
                    pair.iter()
                        .rev()
                        .copied()
                        .reduce(u64::saturating_sub)
                        .map_or(0.0, stretched)
                })
                .collect();
            let sum: f64 = gaps.iter().sum();
            let mut place = whole;
            places.insert(*start, place);
            for (moment, gap) in inside.iter().skip(1).zip(gaps) {
                place += room * gap / sum;
                places.insert(*moment, place);
            }
            whole += room;
        }
        for place in places.values_mut() {
            *place = Self::MARGIN + (100.0 - 2.0 * Self::MARGIN) * *place / whole.max(1.0);
        }
        Self(places)
    }

    /// In percent of the width.
    fn place(&self, moment: u64) -> f64 {
        self.0.get(&moment).copied().unwrap_or(Self::MARGIN)
    }
}

/// The room that so many milliseconds have.
fn stretched(gap: u64) -> f64 {
    1.0 + f64::from(u32::try_from(gap).unwrap_or(u32::MAX)).ln_1p()
}

/// The picture with its name and a description in words.
pub(super) fn draw(out: &mut Markup, scenario: &Scenario, anchor: &str) {
    let scale = Scale::of(scenario);
    let legs = by_leg(&scenario.steps);
    let head = if scenario.steps.len() > STEPS_IN_A_ROW {
        HEAD * 2
    } else {
        HEAD
    };
    let lanes = lanes(&scenario.holdings);
    let height = u64::try_from(lanes.len().saturating_add(legs.len()))
        .unwrap_or(u64::MAX)
        .saturating_mul(LANE)
        .saturating_add(head);
    let size = height.to_string();
    let (title, about) = (format!("{anchor}-title"), format!("{anchor}-about"));
    let labels = format!("{title} {about}");
    out.within(
        "svg",
        &[
            ("class", "timeline"),
            ("width", "100%"),
            ("height", &size),
            ("role", "img"),
            ("aria-labelledby", &labels),
        ],
        |svg| {
            svg.element("title", &[("id", &title)], &format!("Timeline of {}", scenario.title));
            svg.element("desc", &[("id", &about)], &in_words(scenario, &legs));
            for (at, steps) in at_once(&scenario.steps).iter().enumerate() {
                let row = if at % 2 == 1 && head > HEAD { HEAD } else { 0 };
                number(svg, &scale, steps, row, height);
            }
            let mut y = head;
            for lane in &lanes {
                bars(svg, &scale, lane, scenario.duration_ms, y);
                y = y.saturating_add(LANE);
            }
            for (leg, records) in &legs {
                marks(svg, &scale, *leg, records, y);
                y = y.saturating_add(LANE);
            }
        },
    );
}

/// The holdings by who held what, those that begin first before others of the same holder. No lane is empty.
fn lanes(holdings: &[Holding]) -> Vec<Vec<&Holding>> {
    let mut lanes: Vec<Vec<&Holding>> = Vec::new();
    let of = |holding: &Holding| (holding.who, holding.credential, holding.label.clone());
    for holding in holdings {
        let lane = lanes
            .iter_mut()
            .find(|lane| lane.first().is_some_and(|first| of(first) == of(holding)));
        match lane {
            Some(lane) => lane.push(holding),
            None => lanes.push(vec![holding]),
        }
    }
    lanes.sort_by_key(|lane| lane.first().map(|first| (first.who, first.from_ms)));
    lanes
}

/// Until when something is drawn: no longer than the scenario.
fn end_of(holding: &Holding, end: u64) -> u64 {
    let until = holding.until_ms.unwrap_or(end).min(end);
    until.max(holding.from_ms)
}

fn by_leg(steps: &[Step]) -> BTreeMap<Leg, Vec<&Record>> {
    let mut legs: BTreeMap<Leg, Vec<&Record>> = BTreeMap::new();
    for record in steps.iter().flat_map(|step| &step.legs) {
        legs.entry(record.leg).or_default().push(record);
    }
    legs
}

fn percent(place: f64) -> String {
    format!("{place:.2}%")
}

/// The steps with their numbers; those that began in the same millisecond together.
fn at_once(steps: &[Step]) -> Vec<Vec<(usize, &Step)>> {
    let mut groups: Vec<Vec<(usize, &Step)>> = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let one = (at.saturating_add(1), step);
        match groups.last_mut() {
            Some(group) if group.first().is_some_and(|(_, first)| first.at_ms == step.at_ms) => group.push(one),
            Some(_) | None => groups.push(vec![one]),
        }
    }
    groups
}

/// Steps that begin here: their numbers, and a line through all lanes.
fn number(svg: &mut Markup, scale: &Scale, steps: &[(usize, &Step)], row: u64, height: u64) {
    let (Some((first, step)), Some((last, _))) = (steps.first(), steps.last()) else {
        return;
    };
    let x = percent(scale.place(step.at_ms));
    let time = words::duration(step.at_ms);
    let from = row.saturating_add(38).to_string();
    let height = height.to_string();
    let line = [
        ("class", "rule"),
        ("x1", x.as_str()),
        ("x2", &x),
        ("y1", &from),
        ("y2", &height),
    ];
    svg.empty("line", &line);
    svg.within(
        "svg",
        &[("x", &x), ("y", &row.to_string()), ("overflow", "visible")],
        |mark| {
            let titles: Vec<String> = steps
                .iter()
                .map(|(number, step)| format!("{number}. {}", step.title))
                .collect();
            mark.element("title", &[], &format!("{} ({time})", titles.join("; ")));
            // A step that did not hold has corners: its colour is not all that tells it.
            let held = steps.iter().all(|(_, step)| step.held);
            let (class, corner) = if held {
                ("step-held", "11")
            } else {
                ("step-failed", "3")
            };
            let (left, width, numbers) = match first == last {
                true => ("-11", "22", first.to_string()),
                false => ("-17", "34", format!("{first}–{last}")),
            };
            mark.empty(
                "rect",
                &[
                    ("class", class),
                    ("x", left),
                    ("y", "2"),
                    ("width", width),
                    ("height", "22"),
                    ("rx", corner),
                ],
            );
            mark.element(
                "text",
                &[("class", "step-number"), ("y", "17"), ("text-anchor", "middle")],
                &numbers,
            );
            mark.element(
                "text",
                &[("class", "step-time"), ("y", "36"), ("text-anchor", "middle")],
                &time,
            );
        },
    );
}

/// A credential in somebody's hands, each time that it was.
fn bars(svg: &mut Markup, scale: &Scale, lane: &[&Holding], end: u64, y: u64) {
    let Some(first) = lane.first() else { return };
    let who = words::holder(first.who);
    let what = words::credential(first.credential);
    let label = format!("{who} · {what}: {}", first.label);
    svg.within("g", &[("class", words::credential_class(first.credential))], |group| {
        let baseline = y.saturating_add(13).to_string();
        group.element(
            "text",
            &[("class", "lane"), ("x", "0"), ("y", &baseline)],
            &words::shortened(&label, LABEL),
        );
        for holding in lane {
            bar(group, scale, holding, end, y);
        }
    });
}

fn bar(lane: &mut Markup, scale: &Scale, holding: &Holding, end: u64, y: u64) {
    let from = scale.place(holding.from_ms);
    let until = scale.place(end_of(holding, end));
    let (below, middle) = (y.saturating_add(20), y.saturating_add(25).to_string());
    let sign = |lane: &mut Markup, at: f64, path: &str| {
        let x = percent(at);
        lane.within("svg", &[("x", &x), ("y", &middle), ("overflow", "visible")], |mark| {
            mark.empty("path", &[("class", "bar"), ("d", path)]);
        });
    };
    lane.within("g", &[], |group| {
        group.element("title", &[], &held(holding));
        if holding.until_ms == Some(holding.from_ms) {
            sign(group, from, "M0 -7 L7 0 L0 7 L-7 0 z");
            return;
        }
        group.empty(
            "rect",
            &[
                ("class", "bar"),
                ("x", &percent(from)),
                ("y", &below.to_string()),
                ("width", &percent(until - from)),
                ("height", "10"),
                ("rx", "2"),
            ],
        );
        if holding.until_ms.is_none_or(|until| until > end) {
            // Held beyond the end of what was watched.
            sign(group, until, "M-1 -5 L7 0 L-1 5 z");
        }
    });
}

/// The messages of a leg.
fn marks(svg: &mut Markup, scale: &Scale, leg: Leg, records: &[&Record], y: u64) {
    let asked = records
        .iter()
        .filter(|record| record.direction == Direction::Request)
        .count();
    let answered = records.len().saturating_sub(asked);
    let mut label = format!(
        "{} leg · {}",
        words::leg(leg),
        words::counted(asked, "request", "requests")
    );
    // On some legs answers are not watched.
    if answered > 0 {
        label = format!("{label}, {}", words::counted(answered, "answer", "answers"));
    }
    let (baseline, middle) = (y.saturating_add(13).to_string(), y.saturating_add(25).to_string());
    svg.within("g", &[("class", "leg")], |group| {
        group.element(
            "text",
            &[("class", "lane"), ("x", "0"), ("y", &baseline)],
            &words::shortened(&label, LABEL),
        );
        group.empty(
            "line",
            &[
                ("class", "wire"),
                ("x1", "0"),
                ("x2", "100%"),
                ("y1", &middle),
                ("y2", &middle),
            ],
        );
        for record in records {
            let x = percent(scale.place(record.at_ms));
            group.within("svg", &[("x", &x), ("y", &middle), ("overflow", "visible")], |mark| {
                mark.element(
                    "title",
                    &[],
                    &format!("{}: {}", words::direction(record.direction), record.summary),
                );
                let (class, path) = match record.direction {
                    Direction::Request => ("request", "M-4 -5 L4 0 L-4 5 z"),
                    Direction::Response => ("response", "M4 -5 L-4 0 L4 5 z"),
                };
                mark.empty("path", &[("class", class), ("d", path)]);
            });
        }
    });
}

/// Who held something, and when, in a sentence.
pub(super) fn held(holding: &Holding) -> String {
    let from = words::duration(holding.from_ms);
    let when = match holding.until_ms {
        Some(until) if until == holding.from_ms => format!("at {from}"),
        Some(until) => format!("from {from} until {}", words::duration(until)),
        None => format!("from {from} on, beyond the end"),
    };
    let who = words::holder(holding.who);
    let credential = words::credential(holding.credential);
    format!("{who}: {credential} ({}), {when}", holding.label)
}

/// The picture for whoever does not see it.
fn in_words(scenario: &Scenario, legs: &BTreeMap<Leg, Vec<&Record>>) -> String {
    let mut text = String::new();
    for holding in &scenario.holdings {
        // A string takes whatever is written to it.
        write!(text, "{}. ", held(holding)).unwrap_or(());
    }
    for (leg, records) in legs {
        let messages = words::counted(records.len(), "message", "messages");
        write!(text, "{}: {messages}. ", words::ends(*leg)).unwrap_or(());
    }
    text.push_str("The steps below say the same in order.");
    text
}

#[cfg(test)]
mod tests {
    use super::super::model::Outcome;
    use super::*;

    fn scenario(steps: &[u64], duration_ms: u64, until_ms: &[u64]) -> Scenario {
        let step = |at_ms: &u64| Step {
            at_ms: *at_ms,
            title: String::new(),
            expected: String::new(),
            seen: String::new(),
            held: true,
            cause: None,
            remedy: None,
            legs: Vec::new(),
        };
        let holding = |until_ms: &u64| Holding {
            who: super::super::model::Holder::Client,
            credential: super::super::model::Credential::Token,
            label: String::new(),
            from_ms: 0,
            until_ms: Some(*until_ms),
            note: String::new(),
        };
        Scenario {
            name: String::new(),
            title: String::new(),
            purpose: String::new(),
            outcome: Outcome::Passed,
            duration_ms,
            holdings: until_ms.iter().map(holding).collect(),
            steps: steps.iter().map(step).collect(),
        }
    }

    #[test]
    fn moments_stand_in_their_order_and_steps_have_the_same_room() {
        let scale = Scale::of(&scenario(&[10, 20, 9_000], 9_100, &[15, 8_000]));
        let moments = [0, 10, 15, 20, 8_000, 9_000, 9_100];
        let places = moments.map(|moment| scale.place(moment));
        assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");
        let room = |from, until| scale.place(until) - scale.place(from);
        assert!((room(10, 20) - room(20, 9_000)).abs() < 1e-9, "{places:?}");
        assert!(
            (scale.place(0) - 4.0).abs() < 1e-9 && (scale.place(9_100) - 96.0).abs() < 1e-9,
            "{places:?}"
        );
    }

    #[test]
    fn whatever_the_times_are_every_place_is_within_the_picture() {
        for (steps, duration, until) in [
            (&[][..], 0, &[][..]),
            (&[0, 0], 0, &[0]),
            (&[5], 3, &[u64::MAX]),
            (&[u64::MAX], 0, &[1]),
        ] {
            let scale = Scale::of(&scenario(steps, duration, until));
            for place in scale.0.values() {
                assert!(
                    (0.0..=100.0).contains(place),
                    "{steps:?} {duration} {until:?}: {:?}",
                    scale.0
                );
            }
        }
    }
}
