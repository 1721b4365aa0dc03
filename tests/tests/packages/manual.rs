//! The manual pages: one for each command and file, and nothing in them that mandoc or man has something against.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use kerbridge_tests::broker::find_kerbridge;
use kerbridge_tests::shipped::repository;

use crate::{good, lab, run};

fn pages(folder: &Path) -> Vec<PathBuf> {
    let date = OsStr::new("2026-01-02");
    let manual = OsStr::new("manual");
    good(
        find_kerbridge().unwrap(),
        [manual, folder.as_os_str(), OsStr::new("--date"), date],
    );
    good(lab(), [manual, folder.as_os_str(), OsStr::new("--date"), date]);
    let script = repository().join("broker/package/configuration_manual.py");
    good(
        "python3",
        [script.as_os_str(), folder.as_os_str(), date, OsStr::new("0.1.0")],
    );
    let mut pages: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    pages.sort();
    pages
}

#[test]
fn mandoc_and_man_have_nothing_against_the_pages() {
    let folder = tempfile::tempdir().unwrap();
    let pages = pages(folder.path());
    assert!(pages.len() > 35, "{pages:?}");
    let lint = |page: &Path| {
        run(
            "mandoc",
            [OsStr::new("-Tlint"), OsStr::new("-Wwarning"), page.as_os_str()],
        )
    };
    for page in &pages {
        let (_, said) = lint(page);
        // clap_mangen writes a line break beside a space between paragraphs, which is shown as the latter alone.
        let doubled = |line: &&str| line.ends_with("br before sp") || line.ends_with("br after sp");
        let complaints: Vec<&str> = said.lines().filter(|line| !doubled(line)).collect();
        assert_eq!(complaints, [""; 0], "{said}");
        let said = good(
            "bash",
            [
                OsStr::new("-c"),
                OsStr::new("LC_ALL=C.UTF-8 man --warnings --local-file \"$0\" 2>&1 >/dev/null"),
                page.as_os_str(),
            ],
        );
        assert_eq!(said, "", "{}", page.display());
    }
    let broken = folder.path().join("broken.1");
    fs::write(
        &broken,
        ".TH BROKEN 1 2026-01-02\n.SH NAME\nbroken\n.fi\n.XX no such macro\n",
    )
    .unwrap();
    assert!(!lint(&broken).0);
}

#[test]
fn a_page_says_what_the_help_says_and_each_field_of_the_configuration_has_its_place() {
    let folder = tempfile::tempdir().unwrap();
    pages(folder.path());
    let shown = |page: &str| {
        let page = folder.path().join(page);
        let show = OsStr::new("mandoc -Tutf8 -Owidth=1000 \"$0\" | col -b");
        good("bash", [OsStr::new("-c"), show, page.as_os_str()])
    };
    let render = shown("kerbridge-policy-render.1");
    for words in ["--module-url", "istio-envoy-filter", "EXIT STATUS", "64"] {
        assert!(render.contains(words), "{words}: {render}");
    }
    let document = fs::read_to_string(repository().join("docs/configuration.md")).unwrap();
    let (broker, policy) = document.split_once("\n## policy.toml\n").unwrap();
    for (part, page) in [(broker, "kerbridge.toml.5"), (policy, "kerbridge-policy.toml.5")] {
        let page = shown(page);
        let fields = part
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let mut seen = 0_u32;
        for (field, _) in fields {
            assert!(page.contains(&format!("{field} (")), "{field}");
            seen = seen.saturating_add(1);
        }
        assert!(seen > 60, "{seen}");
    }
}
