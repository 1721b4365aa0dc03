//! What the rest of Envoy learns of a decision: filter state for RBAC and access logs, statistics with labels, gauges.

use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::issuer::{FEED, ISSUER, Issuer, token_entry};
use kerbridge_tests::shipped::{self, ShippedYaml};
use kerbridge_tests::wait::{wait_for, wait_until};
use kerbridge_tests::world::WorldBuilder;
use serde_json::{Value, json};

fn start(builder: WorldBuilder) -> World {
    let world = builder.start().unwrap();
    wait_until("keys", Duration::from_secs(10), || {
        world.stat("wasmcustom.kerbridge.key_sets_taken.issuer.id") == Some(2)
    })
    .unwrap();
    world
}

/// Access-log fields of what the filter writes to filter state.
fn log_filter_state(yaml: &mut ShippedYaml) -> Result<(), kerbridge_tests::HarnessError> {
    let names = ["subject", "issuer", "audience", "scope", "reason", "route"];
    let lines = names.map(|name| format!("state_{name}: \"%FILTER_STATE(wasm.kerbridge.{name}:PLAIN)%\""));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    yaml.insert_below("request_id: \"%REQ(X-REQUEST-ID)%\"", &lines)
}

/// A filter of Envoy's own behind kerbridge that lets only alice of this issuer change anything.
fn only_alice_changes(yaml: &mut ShippedYaml) -> Result<(), kerbridge_tests::HarnessError> {
    let state = |name: &str, value: &str| json!({"filter_state": {"key": format!("wasm.kerbridge.{name}"), "string_match": {"exact": value}}});
    let alice =
        json!({"and_ids": {"ids": [state("subject", "alice"), state("issuer", ISSUER), state("reason", "ok")]}});
    let reads = json!({"header": {"name": ":method", "string_match": {"exact": "GET"}}});
    let rbac = json!({"name": "rbac", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules": {"action": "ALLOW", "policies": {
            "reads": {"permissions": [reads], "principals": [{"any": true}]},
            "changes": {"permissions": [{"any": true}], "principals": [alice]},
        }},
    }});
    let router = "          - name: envoy.filters.http.router\n";
    yaml.replace(router, &format!("          - {rbac}\n{router}"))
}

#[test]
fn filter_state_says_who_calls_to_rbac_and_the_access_log_and_cannot_be_forged() {
    let issuer = Issuer::start().unwrap();
    let world = start(
        issuer
            .join(World::builder().broker_stopped(), json!({}))
            .filter(|filter| filter["filter_state"] = json!(true))
            .yaml(|yaml| {
                log_filter_state(yaml)?;
                only_alice_changes(yaml)
            }),
    );
    let token = |subject: &str| {
        let members = json!({"sub": subject, "scope": "orders:read orders:write"});
        issuer.token(&members).unwrap()
    };
    let status = |path: &str, token: &str, change: bool| {
        let call = world.curl(path).bearer(token);
        let call = if change { call.body("{}") } else { call };
        call.send().unwrap().status
    };
    assert_eq!(status("/orders/a", &token("alice"), true), 200);
    assert_eq!(status("/orders/b", &token("bob"), true), 403);
    assert_eq!(status("/orders/c", &token("bob"), false), 200);
    // From memory the second time.
    let again = token("alice");
    assert_eq!(status("/orders/d", &again, true), 200);
    assert_eq!(status("/orders/e", &again, true), 200);
    let refused = world.curl("/orders/f").bearer("x.y.z").send().unwrap();
    assert_eq!(refused.status, 401);
    let open = world.curl("/healthz").send().unwrap();
    assert_eq!(open.status, 200);

    let line = |path: &str| {
        wait_for("an access-log line", Duration::from_secs(10), || {
            world.access_lines().into_iter().find(|line| line["path"] == path)
        })
        .unwrap()
    };
    let said = |path: &str| {
        let line = line(path);
        ["reason", "route", "subject", "issuer", "audience", "scope"].map(|name| line[format!("state_{name}")].clone())
    };
    let verified = |subject: &str, route: &str| {
        ["ok", route, subject, ISSUER, "orders", "orders:read orders:write"].map(Value::from)
    };
    assert_eq!(said("/orders/a"), verified("alice", "orders-change"));
    assert_eq!(said("/orders/b"), verified("bob", "orders-change"));
    assert_eq!(line("/orders/b")["details"], "rbac_access_denied_matched_policy[none]");
    assert_eq!(said("/orders/c"), verified("bob", "orders"));
    assert_eq!(said("/orders/e"), verified("alice", "orders-change"));
    let nobody = |reason: &str, route: &str| {
        [
            json!(reason),
            json!(route),
            json!(null),
            json!(null),
            json!(null),
            json!(null),
        ]
    };
    assert_eq!(said("/orders/f"), nobody("token_malformed", "orders"));
    assert_eq!(said("/healthz"), nobody("ok", "health"));
    assert!(!world.envoy_log().contains("does not take filter state"));
}

#[test]
fn the_whole_access_log_says_whose_request_it_was_and_how_it_ended() {
    let file = std::fs::read_to_string(shipped::repository().join("envoy/observe/access-log.yaml")).unwrap();
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    let log: String = lines.map(|line| format!("          {line}\n")).collect();
    let world = World::builder()
        .filter(|filter| filter["filter_state"] = json!(true))
        .yaml(move |yaml| {
            yaml.remove_block("access_log:")?;
            yaml.replace(
                "          http_filters:\n          # Rendered",
                &format!("{log}          http_filters:\n          # Rendered"),
            )
        })
        .start()
        .unwrap();
    let token = world.token("alice", "/orders/1").unwrap();
    assert_eq!(
        world
            .curl("/orders/good?secret=1")
            .bearer(&token)
            .send()
            .unwrap()
            .status,
        200
    );
    assert_eq!(world.curl("/orders/bad").bearer("x.y.z").send().unwrap().status, 401);
    let line = |path: &str| {
        wait_for("an access-log line", Duration::from_secs(10), || {
            world.access_lines().into_iter().find(|line| line["path"] == path)
        })
        .unwrap()
    };
    let claims = kerbridge_tests::token::decode(&token).unwrap().claims;
    let good = line("/orders/good");
    for (field, value) in [
        ("reason", json!("ok")),
        ("route", json!("orders")),
        ("subject", claims["sub"].clone()),
        ("issuer", json!(shipped::ISSUER)),
        ("audience", json!("orders")),
        ("jti", claims["jti"].clone()),
        ("sid", claims["sid"].clone()),
        ("status", json!(200)),
        ("details", json!("via_upstream")),
        // Nothing traces here.
        ("trace_id", Value::Null),
    ] {
        assert_eq!(good[field], value, "{field}: {good}");
    }
    let bad = line("/orders/bad");
    for (field, value) in [
        ("reason", json!("token_malformed")),
        ("details", json!("kerbridge_token_malformed")),
        ("status", json!(401)),
        ("subject", Value::Null),
        ("jti", Value::Null),
    ] {
        assert_eq!(bad[field], value, "{field}: {bad}");
    }
    assert!(good["request_id"].is_string() && bad["request_id"].is_string());
}

#[test]
fn without_the_option_nothing_is_written() {
    let issuer = Issuer::start().unwrap();
    let world = start(
        issuer
            .join(World::builder().broker_stopped(), json!({}))
            .filter(|filter| filter["filter_state"] = json!(false))
            .yaml(log_filter_state),
    );
    let token = issuer.token(&json!({})).unwrap();
    assert_eq!(world.curl("/orders/a").bearer(&token).send().unwrap().status, 200);
    let line = wait_for("an access-log line", Duration::from_secs(10), || {
        world
            .access_lines()
            .into_iter()
            .find(|line| line["path"] == "/orders/a")
    })
    .unwrap();
    assert_eq!(
        (&line["state_reason"], &line["state_subject"]),
        (&Value::Null, &Value::Null)
    );
}

/// The value of a metric with these labels on Envoy's Prometheus page. Before 1.39 Envoy says too for which cluster the module was loaded.
fn metric(world: &mut World, name: &str, labels: &[(&str, &str)]) -> Option<u64> {
    let page = world.envoy().admin_get("/stats/prometheus").unwrap().text();
    page.lines().find_map(|line| {
        let (shown, rest) = line.split_once('{')?;
        let (shown_labels, value) = rest.split_once("} ")?;
        let mut wanted: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        let mut found: Vec<&str> = shown_labels.split(',').filter(|label| !label.is_empty()).collect();
        found.retain(|label| {
            !["kerbridge_loaded_for=", "envoy_cluster_name="]
                .iter()
                .any(|known| label.starts_with(known))
        });
        wanted.sort_unstable();
        found.sort_unstable();
        (shown == name && found == wanted).then(|| value.trim().parse().ok())?
    })
}

#[test]
fn decisions_are_counted_by_reason_and_issuer_as_labels() {
    let issuer = Issuer::start().unwrap();
    let mut world = start(issuer.join(World::builder().broker_stopped(), json!({})));
    let token = issuer.token(&json!({})).unwrap();
    let expired = issuer
        .token(&json!({"exp": 1_000_000_000, "iat": 999_999_000}))
        .unwrap();
    for (path, token, times) in [
        ("/orders/1", token.as_str(), 3),
        ("/orders/1", &expired, 2),
        ("/nowhere", &token, 1),
    ] {
        for _ in 0..times {
            world.curl(path).bearer(token).send().unwrap();
        }
    }
    world.curl("/orders/1").send().unwrap();
    world.curl("/healthz").send().unwrap();
    for (reason, issuer, expected) in [
        ("ok", "id", 3),
        ("expired", "id", 2),
        ("denied_by_policy", "-", 1),
        ("no_credentials", "-", 1),
        ("ok", "-", 1),
    ] {
        let labels = [("kerbridge_reason", reason), ("kerbridge_issuer", issuer)];
        assert_eq!(
            metric(&mut world, "kerbridge_requests", &labels),
            Some(expected),
            "{reason} {issuer}"
        );
    }
}

#[test]
fn a_dry_run_lets_requests_pass_and_counts_what_it_would_have_refused() {
    let issuer = Issuer::start().unwrap();
    let mut world = start(
        issuer
            .join(World::builder().broker_stopped(), json!({}))
            .filter(|filter| {
                for route in filter["routes"].as_array_mut().unwrap() {
                    if route["name"] == "orders" {
                        route["dry_run"] = json!(true);
                    }
                }
            }),
    );
    let answer = world.curl("/orders/1").bearer("x.y.z").send().unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("x.y.z"), "Authorization is left as it came");
    let token = issuer.token(&json!({})).unwrap();
    assert_eq!(world.curl("/orders/1").bearer(&token).send().unwrap().status, 200);
    for (reason, issuer) in [("token_malformed", "-"), ("ok", "id")] {
        let labels = [("kerbridge_reason", reason), ("kerbridge_issuer", issuer)];
        assert_eq!(metric(&mut world, "kerbridge_dry_runs", &labels), Some(1), "{reason}");
        assert_eq!(metric(&mut world, "kerbridge_requests", &labels), None, "{reason}");
    }
    assert_eq!(metric(&mut world, "kerbridge_dry_run_rules", &[]), Some(1));
    assert!(
        world
            .envoy_log()
            .contains("request would be refused reason=token_malformed route=orders issuer=-")
    );
    assert!(
        world
            .envoy_log()
            .contains("routes only log and count their verdict routes=1")
    );
    // Another route is as strict as ever.
    assert_eq!(world.curl("/reports/1").bearer("x.y.z").send().unwrap().status, 401);
}

#[test]
fn gauges_show_how_old_keys_and_revocations_are() {
    let issuer = Issuer::start().unwrap();
    let more = json!({"jwks": {"poll": "1s", "max_staleness": "1h"},
        "feed": {"cluster": "id", "path": FEED, "poll": "1s", "max_staleness": "1h"}});
    let mut world = start(issuer.join(World::builder().broker_stopped(), more).concurrency(1));
    issuer.revoke(&[token_entry("one")]);
    let labels = [("kerbridge_issuer", "id")];
    let ages = ["kerbridge_keys_age_seconds", "kerbridge_revocation_age_seconds"];
    for age in ages {
        wait_until(age, Duration::from_secs(10), || {
            metric(&mut world, age, &labels).is_some()
        })
        .unwrap();
    }
    issuer.go_away(true);
    for age in ages {
        wait_until("a growing age", Duration::from_secs(20), || {
            metric(&mut world, age, &labels).is_some_and(|age| age >= 4)
        })
        .unwrap();
    }
    issuer.go_away(false);
    for age in ages {
        wait_until("a small age", Duration::from_secs(20), || {
            metric(&mut world, age, &labels).is_some_and(|age| age <= 2)
        })
        .unwrap();
    }
    assert_eq!(metric(&mut world, "kerbridge_dry_run_rules", &[]), Some(0));
}
