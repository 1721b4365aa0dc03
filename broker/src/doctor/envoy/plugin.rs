//! Says what the entry of our filter needs: that it runs, fails closed, may call and be called, and has a machine of its own.

use kerbridge_wire::filter_config::IdentityHeaders;
use serde_json::Value;

use super::dump::{Dump, Entry, Manager, is, word};
use super::{Gap, RENDER};

/// What the module uses of its host, and what its host calls in it.
const CAPABILITIES: &str = include_str!("capabilities.txt");
/// Filters that answer what an earlier request brought, to whoever comes.
const ANSWERING: [&str; 2] = ["CacheConfig", "CacheV2Config"];
/// Filters that make another path of the one that was judged.
const REWRITING: [&str; 2] = ["GrpcJsonTranscoder", "GrpcJsonReverseTranscoder"];

/// The configuration of a plugin, where it is JSON in a string, as the filter takes it.
pub(super) fn configuration(plugin: &Value) -> Option<Value> {
    let text = plugin.pointer("/configuration/value")?.as_str()?;
    serde_json::from_str(text).ok().filter(Value::is_object)
}

/// What is wrong with the entry itself.
pub(super) fn judge(entry: Entry<'_>, dump: &Dump<'_>) -> Vec<Gap> {
    let Entry { entry, plugin, .. } = entry;
    let mut gaps = Vec::new();
    if entry.get("disabled") == Some(&Value::Bool(true)) {
        gaps.push(Gap::of(
            "disabled",
            "true, so that requests pass the filter by wherever no route switches it on",
            "remove it",
        ));
    }
    let policy = plugin.get("failure_policy").and_then(Value::as_str);
    if policy != Some("FAIL_RELOAD") {
        let found = policy.unwrap_or("not set");
        gaps.push(Gap::of(
            "failure_policy",
            format!("{found}, so that a module that fails is not loaded again, or lets requests pass"),
            "FAIL_RELOAD",
        ));
    }
    gaps.extend(machine(plugin, dump));
    gaps.extend(capabilities(plugin));
    if configuration(plugin).is_none() {
        gaps.push(Gap::of(
            "configuration",
            "no JSON in a google.protobuf.StringValue",
            RENDER,
        ));
    }
    gaps
}

/// Keys and revocations lie in data that all modules of one `vm_id` may write.
fn machine(plugin: &Value, dump: &Dump<'_>) -> Option<Gap> {
    let id = plugin
        .get("vm_config")
        .map(|machine| word(machine, "vm_id"))
        .unwrap_or_default();
    let problem = if id.is_empty() {
        "not set, so that every other module without one may write the keys that the filter goes by".to_owned()
    } else if dump.other_machines().contains(id) {
        format!("{id}, which another module has too, and so may write the keys that the filter goes by")
    } else {
        return None;
    };
    Some(Gap::of(
        "vm_id",
        problem,
        "kerbridge, in the filters of the listener and of clusters, and nowhere else",
    ))
}

fn capabilities(plugin: &Value) -> Option<Gap> {
    let allowed = plugin
        .pointer("/capability_restriction_config/allowed_capabilities")?
        .as_object()?;
    let missing: Vec<&str> = CAPABILITIES
        .lines()
        .filter(|line| !line.starts_with('#') && !allowed.contains_key(*line))
        .collect();
    // An empty list is none.
    (!allowed.is_empty() && !missing.is_empty()).then(|| {
        Gap::of(
            "capability_restriction_config",
            format!(
                "it lacks {}: a callback that is not allowed is not called, and the request goes on",
                missing.join(", ")
            ),
            "remove it, or add what is missing to allowed_capabilities",
        )
    })
}

/// What stands on the wrong side of our entry in a list, and routes for which the entry is switched off.
pub(super) fn around(ours: Entry<'_>, manager: Manager<'_>, dump: &Dump<'_>) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let filters = manager.settings.get("http_filters").and_then(Value::as_array);
    for (place, entry) in filters.into_iter().flatten().enumerate() {
        let Some(typed) = dump.typed(entry) else { continue };
        let one_of = |kinds: &[&str]| kinds.iter().any(|kind| is(typed, kind));
        let name = word(entry, "name");
        if place < ours.place && one_of(&ANSWERING) {
            gaps.push(Gap::of(
                "http_filters",
                format!("{name} stands before kerbridge, and answers what one client was let in for to everybody"),
                format!("put {name} after kerbridge"),
            ));
        } else if place > ours.place && one_of(&REWRITING) {
            gaps.push(Gap::of(
                "http_filters",
                format!("{name} stands after kerbridge, and makes another path of the one that was judged"),
                format!("put {name} before kerbridge"),
            ));
        }
    }
    let name = word(ours.entry, "name");
    if dump.is_switched_off(manager, name) {
        gaps.push(Gap::of(
            "typed_per_filter_config",
            format!("a route, or a virtual host, says disabled: true for {name}, so that requests pass the filter by"),
            "remove it; in the policy such a route has access = \"open\"",
        ));
    }
    gaps
}

/// Headers that tell the upstream who calls and that a connection manager lets in from a client. The filter removes them too;
/// this lock holds where the filter does not run.
pub(super) fn let_in(manager: &Value, configuration: &Value) -> Vec<String> {
    let headers = configuration.get("identity_headers").cloned();
    let IdentityHeaders {
        subject,
        issuer,
        scope,
        groups,
    } = headers
        .and_then(|headers| serde_json::from_value(headers).ok())
        .unwrap_or_default();
    let removals: Vec<&Value> = manager
        .get("early_header_mutation_extensions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|extension| extension.pointer("/typed_config/mutations")?.as_array())
        .flatten()
        .collect();
    let is_let_in = |name: &String| !name.is_empty() && !removals.iter().any(|removal| removes(removal, name));
    [subject, issuer, scope, groups].into_iter().filter(is_let_in).collect()
}

/// Whether a mutation removes a header, by name or by the two matchers that say so without doubt.
fn removes(mutation: &Value, name: &str) -> bool {
    let word = |pointer: &str| mutation.pointer(pointer).and_then(Value::as_str);
    word("/remove").is_some_and(|removed| removed.eq_ignore_ascii_case(name))
        || word("/remove_on_match/key_matcher/exact") == Some(name)
        || word("/remove_on_match/key_matcher/prefix").is_some_and(|prefix| name.starts_with(prefix))
}
