//! Where the paths are, and which mistakes of the configuration are named.

use super::*;

/// A gate with another `logout`, and more routes.
fn with(logout: &str, routes: &str) -> Result<RefCell<Gate>, String> {
    let config = CONFIG.replace("\"routes\": [", &format!("\"logout\": {logout}, \"routes\": [{routes}"));
    let config = Config::parse(config.as_bytes()).map_err(|errors| errors.to_string())?;
    Ok(RefCell::new(Gate::new(Rc::new(Snapshot::new(
        Rc::new(config),
        at(NOW),
    )))))
}

#[test]
fn the_paths_may_be_elsewhere_or_nowhere() {
    let reason = |gate: &RefCell<Gate>, path: &str, headers: &[(&str, &[u8])]| {
        reply(run(gate, NOW, &head(path, headers), true)).decision.reason
    };
    let elsewhere = with(r#"{"path": "/-/session", "stay_out": "1h"}"#, "").unwrap();
    let reply = crate::world::reply(run(
        &elsewhere,
        NOW,
        &head("/-/session/logout", &[POST, OWN, HTML]),
        true,
    ));
    assert_eq!(lines(&reply, "location"), ["/-/session/logout"]);
    assert!(lines(&reply, "set-cookie")[0].contains("Max-Age=3600"));
    assert_eq!(
        reason(&elsewhere, "/.kerbridge/logout", &[POST, OWN]),
        Reason::DeniedByPolicy
    );

    let mark = format!("{MARK}=1");
    let mark = ("cookie", mark.as_bytes());
    let nowhere = with(r#"{"enabled": false}"#, "").unwrap();
    assert_eq!(
        reason(&nowhere, "/.kerbridge/logout", &[POST, OWN]),
        Reason::DeniedByPolicy
    );
    assert_eq!(reason(&nowhere, "/pages", &[mark]), Reason::NoCredentials);
    // Without cookies there is no session.
    let bearer_only = CONFIG
        .replace(", \"cookie\"]", "]")
        .replace("\"deliver\": \"cookie\"", "\"deliver\": \"none\"");
    let config = Config::parse(bearer_only.as_bytes()).unwrap();
    let gate = RefCell::new(Gate::new(Rc::new(Snapshot::new(Rc::new(config), at(NOW)))));
    assert_eq!(
        reason(&gate, "/.kerbridge/logout", &[POST, OWN]),
        Reason::DeniedByPolicy
    );
}

#[test]
fn a_mistake_of_the_configuration_is_named_with_its_field() {
    let open = |path: &str| format!(r#"{{"name": "x", "path": "{path}", "access": "open"}},"#);
    for (logout, routes, field) in [
        (r#"{"path": "/"}"#, String::new(), "logout.path: expected"),
        (r#"{"path": "kerbridge"}"#, String::new(), "logout.path: expected"),
        (r#"{"path": "/x/"}"#, String::new(), "logout.path: expected"),
        (r#"{"path": "/x//y"}"#, String::new(), "logout.path: expected"),
        (r#"{"path": "/../y"}"#, String::new(), "logout.path: expected"),
        (r#"{"path": "/a\"b"}"#, String::new(), "logout.path: expected"),
        (r#"{"path": "/a%41"}"#, String::new(), "logout.path: expected"),
        (r#"{"stay_out": "0s"}"#, String::new(), "logout.stay_out"),
        (r#"{"stay_out": "25h"}"#, String::new(), "logout.stay_out: expected"),
        (r#"{"other": 1}"#, String::new(), "logout"),
        ("{}", open("/.kerbridge"), "routes[0]: is never reached"),
        ("{}", open("/.kerbridge/help"), "routes[0]: is never reached"),
        (r#"{"path": "/pages"}"#, String::new(), "routes[1]: is never reached"),
    ] {
        let error = with(logout, &routes).unwrap_err();
        assert!(error.starts_with(field), "{logout}: {error}");
    }
    assert!(with(r#"{"enabled": false}"#, &open("/.kerbridge/help")).is_ok());
    assert!(with("{}", &open("/.kerbridge2")).is_ok());
}
