//! Compares the configuration that a running filter has with the one that the policy makes.

use kerbridge_wire::filter_config::FilterConfig;
use serde_json::Value;

use super::{CHECK, RENDER};
use crate::doctor::finding::{Finding, Remedy};

/// Differences that are said one by one.
const MOST: usize = 5;
/// Characters of a value that are shown.
const LONGEST: usize = 60;

/// Whether a filter of this issuer has what the policy makes; nothing where it is a filter of another issuer.
pub(super) fn judge(listener: &str, running: &Value, rendered: &FilterConfig) -> Option<Finding> {
    let own = rendered.issuers.first()?;
    let running: FilterConfig = match serde_json::from_value(running.clone()) {
        Ok(running) => running,
        Err(error) => {
            return Some(
                Finding::gap(
                    CHECK,
                    listener,
                    format!("configuration: the filter cannot read it: {error}"),
                )
                .mended_by([Remedy::any(RENDER)]),
            );
        }
    };
    running.issuers.iter().find(|issuer| issuer.issuer == own.issuer)?;
    let (running, rendered) = (comparable(running)?, comparable(rendered.clone())?);
    let mut differences = Vec::new();
    compare("", Some(&running), Some(&rendered), &mut differences);
    if differences.is_empty() {
        return Some(Finding::good(CHECK, listener, "the filter has what the policy makes"));
    }
    let more = differences.len().saturating_sub(MOST);
    let mut said: Vec<String> = differences.into_iter().take(MOST).collect();
    if more > 0 {
        said.push(format!("and {more} more"));
    }
    Some(
        Finding::gap(
            CHECK,
            listener,
            format!("configuration: not what the policy makes: {}", said.join("; ")),
        )
        .mended_by([Remedy::any(RENDER)]),
    )
}

/// Whether the keys of the broker's that stand in a filter's configuration are those that it publishes: by them an Envoy goes that
/// starts while the broker is away.
pub(super) fn judge_inline(listener: &str, running: &Value, issuer: &str, published: &str) -> Option<Finding> {
    let running: FilterConfig = serde_json::from_value(running.clone()).ok()?;
    let own = running.issuers.into_iter().find(|known| known.issuer == issuer)?;
    let inline = keys(&own.jwks.inline?);
    let published = keys(published);
    // One whose name is there and which is another is both.
    let missing_in = |from: &[Value], of: &[Value]| -> Vec<String> {
        let missing = of.iter().filter(|key| !from.contains(key));
        missing.map(|key| name(key).to_owned()).collect()
    };
    let (gone, new) = (missing_in(&published, &inline), missing_in(&inline, &published));
    let mut said = Vec::new();
    if !gone.is_empty() {
        said.push(format!(
            "it has {}, not published any more: an Envoy that starts while the broker is away takes what it signed",
            gone.join(", ")
        ));
    }
    if !new.is_empty() {
        said.push(format!(
            "it lacks {}: an Envoy that starts while the broker is away refuses what it signs",
            new.join(", ")
        ));
    }
    (!said.is_empty()).then(|| {
        Finding::warning(CHECK, listener, format!("jwks.inline: {}", said.join("; "))).mended_by([Remedy::any(
            "kerbridge policy render --config kerbridge.toml --inline-keys, and replace the filter's entry",
        )])
    })
}

/// The keys of a set; none where it is none, which the filter says by itself.
fn keys(set: &str) -> Vec<Value> {
    let set: Value = serde_json::from_str(set).unwrap_or_default();
    set.get("keys").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn name(key: &Value) -> &str {
    key.get("kid").and_then(Value::as_str).unwrap_or("a key without a name")
}

/// What is the same whoever wrote it: defaults are filled in, and what an Envoy starts with while the broker is away is left out.
fn comparable(mut config: FilterConfig) -> Option<Value> {
    for issuer in &mut config.issuers {
        if let Some(feed) = &mut issuer.feed {
            feed.inline.clear();
        }
        // Keys that stand in the configuration alone are what the policy says.
        if issuer.jwks.cluster.is_some() {
            issuer.jwks.inline = None;
        }
    }
    serde_json::to_value(config).ok()
}

fn compare(place: &str, running: Option<&Value>, rendered: Option<&Value>, differences: &mut Vec<String>) {
    let below = |name: &str| {
        if place.is_empty() {
            name.to_owned()
        } else {
            format!("{place}.{name}")
        }
    };
    match (running, rendered) {
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            for name in one.keys().chain(other.keys().filter(|name| !one.contains_key(*name))) {
                compare(&below(name), one.get(name), other.get(name), differences);
            }
        }
        (Some(Value::Array(one)), Some(Value::Array(other))) if is_nested(one) || is_nested(other) => {
            for at in 0..one.len().max(other.len()) {
                compare(&format!("{place}[{at}]"), one.get(at), other.get(at), differences);
            }
        }
        (one, other) if one == other => {}
        (one, other) => differences.push(format!("{place} is {}, the policy has {}", shown(one), shown(other))),
    }
}

fn is_nested(items: &[Value]) -> bool {
    items.iter().any(|item| item.is_object() || item.is_array())
}

fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else {
        return "absent".to_owned();
    };
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        return text;
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("{start}…")
}
