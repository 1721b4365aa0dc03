//! Looks at the page of a report as a person would, and finds in it all that the run saw.

#![expect(
    clippy::panic,
    clippy::print_stderr,
    reason = "a helper that fails in a test ends the test"
)]

use std::path::Path;

use kerbridge_tests::browser::{self, Browser, Scheme};
use kerbridge_tests::report::model::Run;
use serde_json::json;

/// What is noticed of a page.
const LOOK: &str = include_str!("look.js");
/// The narrowest screen that a page must fit, and a wide one.
const SCREENS: [(u32, u32); 2] = [(360, 800), (1440, 900)];

/// Whether nothing can be looked at here.
pub(crate) fn is_left_out() -> bool {
    let left_out = !browser::is_there();
    if left_out {
        eprintln!("left out: no chromium with its driver");
    }
    left_out
}

/// A browser at this page, with its profile in this folder.
pub(crate) fn browser_at(page: &Path, folder: &Path) -> Browser {
    let browser = Browser::of_nobody(&folder.join("browser")).unwrap();
    browser.visit(&format!("file://{}", page.display())).unwrap();
    browser
}

/// That everybody can read the page on every screen: nothing overflows, all of it has contrast (WCAG 2.2 §1.4.3), headings are in order,
/// pictures have names.
pub(crate) fn looks_well(browser: &Browser) {
    for (width, height) in SCREENS {
        let mut grounds = Vec::new();
        for scheme in [Scheme::Light, Scheme::Dark] {
            browser.show_as(width, height, scheme).unwrap();
            let seen = browser.run(LOOK, &json!([])).unwrap();
            let about = format!("{width} points, {}", scheme.word());
            assert!(seen["texts"].as_u64().unwrap() > 50, "{about}: {seen}");
            assert_eq!(seen["overflow"], 0, "{about}: {}", seen["wide"]);
            for nothing in ["wide", "faint", "skipped", "ids", "fetched"] {
                assert_eq!(seen[nothing], json!([]), "{about}: {nothing}");
            }
            for none in ["pictures", "scripts", "harmed"] {
                assert_eq!(seen[none], 0, "{about}: {none}");
            }
            grounds.push(seen["ground"].clone());
        }
        assert_ne!(grounds.first(), grounds.last(), "light and dark have the same ground");
    }
}

/// All text of an element that this selector finds, that which is folded away too.
pub(crate) fn text_of(browser: &Browser, selector: &str) -> String {
    let script = "return document.querySelector(arguments[0])?.textContent ?? null;";
    let text = browser.run(script, &json!([selector])).unwrap();
    text.as_str()
        .unwrap_or_else(|| panic!("nothing is at {selector}"))
        .to_owned()
}

/// That each scenario shows its legs, its credentials, what was expected and what was seen, and the rest of what the run has of it.
pub(crate) fn shows_everything(browser: &Browser, run: &Run) {
    for scenario in &run.scenarios {
        let whole = text_of(browser, &format!("#scenario-{}", scenario.name));
        let picture = || text_of(browser, &format!("#scenario-{} .timeline", scenario.name));
        let mut expected = vec![scenario.title.clone(), scenario.purpose.clone()];
        for holding in &scenario.holdings {
            expected.extend([holding.label.clone(), holding.note.clone()]);
            let label: String = holding.label.chars().take(20).collect();
            assert!(
                picture().contains(&label),
                "{label} is not in the picture of {}",
                scenario.name
            );
        }
        for step in &scenario.steps {
            expected.extend([step.title.clone(), step.expected.clone(), step.seen.clone()]);
            expected.extend(step.cause.clone());
            expected.extend(step.remedy.clone());
            for record in &step.legs {
                expected.push(record.summary.clone());
                expected.extend(record.lines.clone());
            }
        }
        for text in expected {
            assert!(whole.contains(&text), "{text} is not shown in {}", scenario.name);
        }
    }
}
