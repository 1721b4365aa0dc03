//! Writes what a run of the lab saw: [`model`] is the run itself, kept as `run.json`, and of that a page and JUnit XML can be made
//! again at any time.

use std::fs;
use std::path::{Path, PathBuf};

use crate::canary;
use crate::error::HarnessError;
use model::Run;

mod junit;
mod markup;
pub mod model;
mod page;
pub mod pictures;
pub mod remedies;
mod timeline;
mod words;

pub use junit::junit;
pub use page::page;
pub use words::{duration, unix};

/// The run itself.
const RUN: &str = "run.json";
/// The page.
const PAGE: &str = "report.html";
/// What build servers read.
const JUNIT: &str = "junit.xml";

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The page.
    pub page: PathBuf,
    /// What build servers read.
    pub junit: PathBuf,
    /// The run itself.
    pub run: PathBuf,
}

/// The run as JSON, as `run.json` has it.
///
/// # Errors
///
/// [`HarnessError::Leaked`] where a whole credential is in it: what was masked badly must not leave this process.
pub fn json(run: &Run) -> Result<String, HarnessError> {
    let json =
        serde_json::to_string_pretty(run).map_err(|error| HarnessError::io("write the run as JSON", error.into()))?;
    canary::search("the run", json.as_bytes())?;
    Ok(json)
}

/// Writes the run, its page and its JUnit XML into a folder, which is made where it is not there.
///
/// # Errors
///
/// Those of [`json`], before anything is written, and [`HarnessError::Io`] with the file that could not be written.
pub fn write(run: &Run, folder: &Path) -> Result<Written, HarnessError> {
    let json = json(run)?;
    fs::create_dir_all(folder)
        .map_err(|source| HarnessError::io(format!("create the report's folder {}", folder.display()), source))?;
    let written = Written {
        page: folder.join(PAGE),
        junit: folder.join(JUNIT),
        run: folder.join(RUN),
    };
    for (path, text) in [
        (&written.run, json),
        (&written.page, page(run)),
        (&written.junit, junit(run)),
    ] {
        // In one step: whoever reads it meanwhile has the one or the other, and one of somebody else's is no obstacle.
        let fresh = path.with_extension("new");
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, path))
            .map_err(|source| HarnessError::io(format!("write {}", path.display()), source))?;
    }
    Ok(written)
}

/// Makes the folder and shows that a report can be written there: whoever runs for minutes is to know before.
///
/// # Errors
///
/// [`HarnessError::Io`] with the folder and what to do.
pub fn prepare(folder: &Path) -> Result<(), HarnessError> {
    let remedy = |source| {
        let what = format!(
            "write a report into {} (name another folder with --out)",
            folder.display()
        );
        HarnessError::io(what, source)
    };
    fs::create_dir_all(folder).map_err(remedy)?;
    let tried = tempfile::Builder::new()
        .prefix(".tried-")
        .tempfile_in(folder)
        .map_err(remedy)?;
    tried.close().map_err(remedy)
}

/// Reads the run of a folder.
///
/// # Errors
///
/// [`HarnessError::FileMissing`] where there is none, [`HarnessError::UnexpectedAnswer`] where it is not one.
pub fn read(folder: &Path) -> Result<Run, HarnessError> {
    let path = folder.join(RUN);
    let Ok(text) = fs::read(&path) else {
        return Err(HarnessError::FileMissing {
            path,
            remedy: "`kerbridge-lab run` writes it",
        });
    };
    serde_json::from_slice(&text).map_err(|error| HarnessError::UnexpectedAnswer {
        what: path.display().to_string(),
        answer: format!("is not a run of this version of the lab: {error}"),
    })
}
