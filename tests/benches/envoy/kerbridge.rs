//! Builds kerbridge's configurations: the shipped one, with keys inside instead of a broker, in the sizes that are wanted.

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::signer::{AUDIENCE, SCOPE, Signer};
use kerbridge_tests::shipped::{HOST, ISSUER, ShippedYaml, module};
use serde_json::{Value, json};

use crate::bootstrap::{SERVICE, wasm};

/// How large a configuration is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Rules; that of the requests is the last.
    pub(crate) rules: usize,
    /// Issuers; that of the tokens is the last.
    pub(crate) issuers: usize,
    /// Tokens that are cached; the shipped number where absent, none where 0.
    pub(crate) cached: Option<usize>,
    /// Whether the issuer has a revocation feed.
    pub(crate) feed: bool,
}

impl Default for Size {
    /// As shipped, without the rule that asks for tickets: four rules, one issuer, no feed.
    fn default() -> Self {
        Self {
            rules: 0,
            issuers: 1,
            cached: None,
            feed: false,
        }
    }
}

/// The filter for the signer's tokens.
pub(crate) fn filter(signer: &Signer, size: Size) -> Result<Value, HarnessError> {
    Ok(wasm("kerbridge", &module()?, &configuration(signer, size)?))
}

fn configuration(signer: &Signer, size: Size) -> Result<String, HarnessError> {
    let text = ShippedYaml::read()?.filter_configuration()?;
    let drifted = |expected: &str| HarnessError::Drifted {
        file: "envoy/envoy.yaml",
        expected: expected.to_owned(),
    };
    let mut whole: Value = serde_json::from_str(&text).map_err(|_not_json| drifted(&text))?;
    let root = whole.as_object_mut().ok_or_else(|| drifted("an object"))?;
    root.remove("broker");
    let routes = root
        .get_mut("routes")
        .and_then(Value::as_array_mut)
        .ok_or_else(|| drifted("routes"))?;
    // Tickets for upstreams are asked of a broker, which is measured elsewhere.
    routes.retain(|route| route.get("upstream").is_none());
    for route in routes.iter_mut().filter_map(Value::as_object_mut) {
        if route.contains_key("accept") {
            route.insert("accept".to_owned(), json!(["bearer"]));
            route.insert("deliver".to_owned(), json!("none"));
            // The load comes in clear text, for all setups.
            route.insert("allow_insecure".to_owned(), json!(true));
        }
    }
    let before = size.rules.saturating_sub(routes.len());
    routes.splice(0..0, (0..before).map(another_rule));
    let mut issuers: Vec<Value> = (1..size.issuers).map(|number| another_issuer(signer, number)).collect();
    issuers.push(issuer(signer, ISSUER, size.feed));
    root.insert("issuers".to_owned(), Value::Array(issuers));
    // As shipped, and as this listener does.
    root.insert("underscores_rejected".to_owned(), json!(true));
    if let Some(entries) = size.cached {
        // So much memory that the number of entries is what decides.
        root.insert("token_cache".to_owned(), json!({"entries": entries, "mebibytes": 512}));
    }
    Ok(whole.to_string())
}

fn issuer(signer: &Signer, name: &str, feed: bool) -> Value {
    let mut issuer = json!({
        "issuer": name,
        "algorithms": [signer.algorithm()],
        "audiences": {"orders": [], "reports": []},
        "jwks": {"inline": signer.key_set().to_string()},
    });
    if let (true, Some(issuer)) = (feed, issuer.as_object_mut()) {
        issuer.insert("feed".to_owned(), json!({"cluster": SERVICE}));
    }
    issuer
}

fn another_issuer(signer: &Signer, number: usize) -> Value {
    issuer(signer, &format!("https://issuer-{number}.example.com"), false)
}

fn another_rule(number: usize) -> Value {
    json!({
        "name": format!("rule-{number}"),
        "host": HOST,
        "path_prefix": format!("/service-{number}/v1"),
        "accept": ["bearer"],
        "audience": AUDIENCE,
        "scopes_all": [SCOPE],
        "allow_insecure": true,
    })
}
