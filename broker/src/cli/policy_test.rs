//! Holds the policy to a table of cases: who asks for what, and what is to come of it.

use std::path::{Path, PathBuf};

use clap::Args;
use kerbridge_gss::Enctype;
use kerbridge_wire::{Reason, Span};
use serde::{Deserialize, Serialize};

use super::policy_decision::{Answer, Question, Trade, USUAL_ENCTYPE};
use super::{Check, Failure, Output, output};
use crate::config::{PolicyConfig, read_text};
use crate::policy::{Scopes, no_group_name};
use crate::principal;
use crate::problem::Problems;
use crate::strict_toml;

#[derive(Debug, Args)]
pub(super) struct Test {
    /// The cases, in TOML: tables named case with principal, audience, and gets or refused.
    #[arg(value_name = "FILE")]
    cases: PathBuf,
    #[command(flatten)]
    check: Check,
}

/// The file of cases, as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawCases {
    case: Vec<RawCase>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawCase {
    name: Option<String>,
    principal: Option<String>,
    groups: Option<Vec<String>>,
    channel_bound: bool,
    enctype: Option<String>,
    audience: Option<String>,
    from: Option<String>,
    client: Option<String>,
    asks: Option<Vec<String>>,
    gets: Option<Vec<String>>,
    ttl: Option<Span>,
    refused: Option<String>,
}

/// One case that can be judged.
struct Case {
    name: String,
    question: Question,
    expected: Expected,
}

enum Expected {
    /// Exactly these scopes, and for so long where that is said.
    Given(Vec<String>, Option<Span>),
    Refused(Reason),
}

/// How one case went.
#[derive(Serialize)]
struct Verdict {
    case: String,
    passed: bool,
    expected: String,
    got: String,
    answer: Answer,
}

pub(super) fn run(test: &Test) -> Result<(), Failure> {
    let path = &test.check.file.config;
    let config = match PolicyConfig::load(path) {
        Ok(config) => config,
        Err(problems) => return output::checked(path, Err(problems), test.check.output),
    };
    let cases = read(&test.cases, test.check.output)?;
    let verdicts: Vec<Verdict> = cases.iter().map(|case| case.judge(&config)).collect();
    output::print_as(test.check.output, &verdicts, || shown(&verdicts))?;
    if verdicts.iter().all(|verdict| verdict.passed) {
        Ok(())
    } else {
        Err(Failure::No)
    }
}

fn read(path: &Path, output: Output) -> Result<Vec<Case>, Failure> {
    let mut problems = Problems::default();
    let text = read_text(path, "FILE", &mut problems);
    let raw: Option<RawCases> = text.and_then(|text| strict_toml::read(&text, &mut problems));
    let cases = raw.unwrap_or_default().case;
    if cases.is_empty() && problems.is_empty() {
        problems.note(
            "case",
            "there is none",
            "add a [[case]] with principal, audience, and gets or refused",
        );
    }
    let cases: Vec<Case> = cases
        .into_iter()
        .enumerate()
        .filter_map(|(index, case)| case.check(index, &mut problems))
        .collect();
    if problems.is_empty() {
        Ok(cases)
    } else {
        // The configuration is good; what is wrong was named on the command line.
        output::problems(path, &problems, output);
        Err(Failure::Usage)
    }
}

impl RawCase {
    fn check(self, index: usize, problems: &mut Problems) -> Option<Case> {
        let Self {
            name,
            principal,
            groups,
            channel_bound,
            enctype,
            audience,
            from,
            client,
            asks,
            gets,
            ttl,
            refused,
        } = self;
        let field = |name: &str| format!("case[{index}].{name}");
        if principal.is_none() {
            problems.missing(&field("principal"), "name who asks, such as \"alice@EXAMPLE.COM\"");
        }
        if audience.is_none() {
            problems.missing(&field("audience"), "name what they ask for");
        }
        let who = principal.as_deref().map(principal::canonical);
        if let Some(Err(error)) = &who {
            let text = principal.as_deref().unwrap_or_default();
            problems.note(
                field("principal"),
                format!("{text:?}: {error}"),
                "write a full principal",
            );
        }
        for (at, group) in groups.iter().flatten().enumerate() {
            if let Some(problem) = no_group_name(group) {
                problems.note(
                    field(&format!("groups[{at}]")),
                    format!("{group:?} {problem}"),
                    "correct it",
                );
            }
        }
        let enctype = match enctype.as_deref().map(str::parse::<Enctype>) {
            None => Some(Enctype::from(USUAL_ENCTYPE)),
            Some(Ok(enctype)) => Some(enctype),
            Some(Err(error)) => {
                problems.note(
                    field("enctype"),
                    error.to_string(),
                    "write aes256-cts-hmac-sha1-96 or another of MIT's",
                );
                None
            }
        };
        let requested = match asks.as_deref() {
            None => None,
            Some([]) => {
                problems.note(
                    field("asks"),
                    "is empty",
                    "leave it out where all that is granted is asked for",
                );
                None
            }
            Some(words) => scopes(words, &field("asks"), problems),
        };
        let trade = trade(from, client, &field, problems);
        let expected = expected(gets, ttl, refused, &field, problems);
        let (principal, audience) = (who?.ok()?, audience?);
        Some(Case {
            name: name.unwrap_or_else(|| format!("case[{index}] {principal} {audience}")),
            question: Question {
                principal,
                groups: groups.map(|groups| groups.into_iter().collect()),
                channel_bound,
                enctype: enctype?,
                audience,
                trade,
                requested,
            },
            expected: expected?,
        })
    }
}

fn scopes(words: &[String], field: &str, problems: &mut Problems) -> Option<Scopes> {
    Scopes::from_list(words)
        .map_err(|error| problems.note(field, error.to_string(), "correct it"))
        .ok()
}

/// A trade, where both of its fields are there.
fn trade(
    from: Option<String>,
    client: Option<String>,
    field: &impl Fn(&str) -> String,
    problems: &mut Problems,
) -> Option<Trade> {
    match (from, client) {
        (Some(from), Some(client)) => {
            let trade = Trade { from, client };
            if let Some((client, why)) = trade.nobody() {
                problems.note(
                    field("client"),
                    format!("{client:?} {why}"),
                    "write the name in the client's certificate, or client_name of the mesh listener",
                );
            }
            Some(trade)
        }
        (Some(_), None) => {
            problems.missing(&field("client"), "say which client trades the token of from");
            None
        }
        (None, Some(_)) => {
            problems.missing(
                &field("from"),
                "say of which audience the token is that the client trades",
            );
            None
        }
        (None, None) => None,
    }
}

fn expected(
    gets: Option<Vec<String>>,
    ttl: Option<Span>,
    refused: Option<String>,
    field: &impl Fn(&str) -> String,
    problems: &mut Problems,
) -> Option<Expected> {
    match (gets, refused) {
        (Some(gets), None) => {
            let scopes = scopes(&gets, &field("gets"), problems)?;
            Some(Expected::Given(scopes.iter().cloned().collect(), ttl))
        }
        (None, Some(word)) => {
            if ttl.is_some() {
                problems.note(field("ttl"), "is of no use where nothing is given", "remove it");
            }
            let reason = Reason::from_word(&word).filter(|reason| *reason != Reason::Ok);
            if reason.is_none() {
                problems.note(
                    field("refused"),
                    format!("{word:?} is no reason of a refusal"),
                    "write one of the list, such as \"denied_by_policy\" or \"invalid_scope\"",
                );
            }
            reason.map(Expected::Refused)
        }
        (Some(_), Some(_)) => {
            problems.note(field("refused"), "stands beside gets", "keep one of the two");
            None
        }
        (None, None) => {
            problems.missing(
                &field("gets"),
                "say what is to come of it: gets = [\"scope\"], or refused = \"reason\"",
            );
            None
        }
    }
}

impl Case {
    fn judge(&self, config: &PolicyConfig) -> Verdict {
        let answer = self.question.ask(config);
        let passed = match &self.expected {
            Expected::Given(scopes, ttl) => {
                answer.scopes() == Some(scopes.as_slice()) && ttl.is_none_or(|ttl| answer.ttl() == Some(ttl))
            }
            Expected::Refused(reason) => answer.reason() == reason.as_str(),
        };
        Verdict {
            case: self.name.clone(),
            passed,
            expected: self.expected.to_string(),
            got: answer.outcome(),
            answer,
        }
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Given(scopes, ttl) => {
                if scopes.is_empty() {
                    f.write_str("no scope")?;
                } else {
                    f.write_str(&scopes.join(" "))?;
                }
                ttl.map_or(Ok(()), |ttl| write!(f, " for {ttl}"))
            }
            Self::Refused(reason) => f.write_str(reason.as_str()),
        }
    }
}

/// A line for each case, and all about those that went wrong.
fn shown(verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    for verdict in verdicts {
        let Verdict {
            case,
            passed,
            expected,
            got,
            answer,
        } = verdict;
        text.push_str(&if *passed {
            format!("ok      {case}: {got}\n")
        } else {
            format!("FAILED  {case}: expected {expected}; got {got}\n{answer}")
        });
    }
    let failed = verdicts.iter().filter(|verdict| !verdict.passed).count();
    text.push_str(&format!("{} cases, {failed} failed\n", verdicts.len()));
    text
}
