//! Takes the pictures of a report that the documents show.

use std::fs;
use std::path::{Path, PathBuf};

use crate::browser::{Browser, Scheme};
use crate::error::HarnessError;

/// Wide enough for the index beside the scenarios.
const WIDTH: u32 = 1120;
const HEIGHT: u32 = 800;

/// Takes a picture of the summary and of the beginning of one scenario, in light and in dark, of the page at `page`. They are called `NAME-light.png`
/// and so on.
///
/// # Errors
///
/// Every [`HarnessError`]; the page must have such a scenario, with two steps.
pub fn take(page: &Path, scenario: &str, folder: &Path) -> Result<Vec<PathBuf>, HarnessError> {
    let profile = tempfile::tempdir().map_err(|source| HarnessError::io("make the browser's folder", source))?;
    let browser = Browser::of_nobody(profile.path())?;
    let page = page
        .canonicalize()
        .map_err(|source| HarnessError::io(format!("find {}", page.display()), source))?;
    browser.visit(&format!("file://{}", page.display()))?;
    let (from, to) = (
        format!("#scenario-{scenario} .top"),
        format!("#scenario-{scenario} .step:nth-child(2)"),
    );
    let mut taken = Vec::new();
    for scheme in [Scheme::Light, Scheme::Dark] {
        browser.show_as(WIDTH, HEIGHT, scheme)?;
        for (name, from, to) in [("lab-summary", "header", "header"), ("lab-scenario", &from, &to)] {
            let path = folder.join(format!("{name}-{}.png", scheme.word()));
            fs::write(&path, browser.picture(from, to)?)
                .map_err(|source| HarnessError::io(format!("write {}", path.display()), source))?;
            taken.push(path);
        }
    }
    Ok(taken)
}
