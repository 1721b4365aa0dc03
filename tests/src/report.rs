//! Writes what a run of the lab saw: [`model`] is the run itself, kept as `run.json`.

pub mod model;
