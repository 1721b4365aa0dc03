//! Authlib, an OAuth library for Python, as it comes.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use kerbridge_tests::oauth_world::{KEY_CLIENT, OauthWorld};
use kerbridge_tests::wait::wait_until;
use serde_json::{Value, json};

use crate::clients::python;

#[test]
fn an_oauth_library_finds_its_way_from_a_refusal_to_a_token_that_the_filter_takes() {
    let mut lab = OauthWorld::start().unwrap();
    let key = lab.world().folder().join("client.pem");
    std::fs::write(&key, lab.key().private_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let told = json!({
        "url": lab.world().url("/orders/1"),
        "elsewhere": lab.world().url("/billing/1"),
        "authority": lab.authority(),
        "client": KEY_CLIENT,
        "key": key,
        "kid": lab.key().key_id(),
        "trade": "billing",
        "scope": "orders:read",
    });
    let told = told.to_string();
    let found: Value = python(lab.world(), "oauth", "authlib_client.py", &[told.as_ref()]);
    let token = found["token"].as_str().unwrap().to_owned();
    kerbridge_tests::canary::note(token.as_bytes());
    assert_eq!(found["issuer"], lab.issuer());
    assert_eq!(found["broker proven"], true);
    assert_eq!(
        found["opened"],
        json!({ "without": 401, "unnamed": 200, "named": 200, "traded": 200, "traded, where it came from": 401 })
    );
    for (place, member, value) in [
        ("claims", "sub", "alice@LAB.TEST"),
        ("claims", "client_id", KEY_CLIENT),
        ("said", "sub", "alice@LAB.TEST"),
        ("said", "client_id", KEY_CLIENT),
    ] {
        assert_eq!(found[place][member], value, "{place}");
    }
    assert_eq!(
        found["errors"],
        json!(["invalid_client", "invalid_target", "invalid_request"])
    );
    assert_eq!((&found["taken back"], &found["inactive"]), (&json!(200), &json!(true)));
    wait_until("the filter to hear of it", Duration::from_secs(10), || {
        super::opens(&mut lab, "/orders/1", &token) == 401
    })
    .unwrap();
}
