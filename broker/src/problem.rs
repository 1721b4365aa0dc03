//! Says what is wrong with a configuration: which field, what about it, and what to do.

use std::fmt;

use serde::Serialize;

/// One thing that is wrong, with its remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The field, as a path: `listen.mesh.unix`, `kerberos.acceptor[0].keytab`.
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, problem, remedy } = self;
        write!(f, "{field}: {problem}; {remedy}")
    }
}

/// All that is wrong, in the order in which it was found. As an error it is never empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Notes one more.
    pub fn note(&mut self, field: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Problem {
            field: field.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        });
    }

    /// Notes an absence, unless the field or one that it is in was already noted: a field with a mistake reads as absent.
    pub fn missing(&mut self, field: &str, remedy: &str) {
        let known = self.0.iter().any(|problem| {
            field
                .strip_prefix(problem.field.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        });
        if !known {
            self.note(field, "is missing", remedy);
        }
    }

    /// Whether anything was noted about an element of a list: one with a mistake may not be there any more.
    pub fn are_about(&self, list: &str) -> bool {
        let mut fields = self.0.iter().map(|problem| problem.field.as_str());
        fields.any(|field| field.strip_prefix(list).is_some_and(|rest| rest.starts_with('[')))
    }

    /// Notes all of another list, under a prefix to their fields.
    pub fn absorb(&mut self, prefix: &str, others: Self) {
        self.0.extend(others.0.into_iter().map(|problem| Problem {
            field: format!("{prefix}{}", problem.field),
            ..problem
        }));
    }

    /// The value, or nothing where its problems are noted instead.
    pub fn sift<T>(&mut self, outcome: Result<T, Self>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(others) => {
                self.absorb("", others);
                None
            }
        }
    }

    /// What keeps the configuration from being read at all, where that is what is wrong: nothing else is known then.
    pub fn of_the_file(&self) -> Option<&Problem> {
        match self.0.as_slice() {
            [only] if only.field == "--config" => Some(only),
            _ => None,
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The problems.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
