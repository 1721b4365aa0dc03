//! A browser that was logged out stays out, whatever comes late and whatever a service sets.

use kerbridge_tests::HarnessError;
use kerbridge_tests::scripted_server::{Reply, ScriptedServer};
use kerbridge_tests::shipped::ShippedYaml;

use super::*;

#[test]
fn a_session_that_comes_after_the_logout_opens_nothing_until_its_user_wants_in() {
    let world = builder().start().unwrap();
    let cookie = log_in(&world, "alice", "/orders/1");
    let answer = log_out(&world, &[&cookie]).send().unwrap();
    assert_eq!(answer.status, 200);
    // The answer to a request that was under way meanwhile: its token was issued after the logout, and is good.
    let late = log_in(&world, "alice", "/orders/1");
    assert!(all_are(&world, "/orders/1", &late, 200));
    let mark = format!("{MARK}=1");
    let held = |path: &str| with_cookies(world.curl(path), &[&late, &mark]);
    let refused = held("/orders/1").send().unwrap();
    assert_eq!(world.reason(&refused).unwrap(), (401, "logged_out".to_owned()));
    let name = late.split_once('=').unwrap().0;
    let gone = |answer: &Answer| set(answer).into_iter().map(|(pair, _)| pair).collect::<Vec<_>>();
    assert_eq!(gone(&refused), [format!("{name}=")]);

    // An image or a look ahead is nobody who wants in.
    let login = || held("/.kerbridge/login").header("sec-fetch-site: same-origin");
    for step in [
        login()
            .header("sec-fetch-mode: no-cors")
            .header("sec-fetch-dest: image"),
        login().header("sec-purpose: prefetch"),
    ] {
        let refused = step.send().unwrap();
        assert_eq!(world.reason(&refused).unwrap(), (403, "denied_by_policy".to_owned()));
        assert_eq!(set(&refused), []);
    }
    let back = login()
        .header("sec-fetch-mode: navigate")
        .header("sec-fetch-dest: document");
    let back = back.send().unwrap();
    assert_eq!(
        (back.status, gone(&back)),
        (303, vec![format!("{name}="), format!("{MARK}=")])
    );
}

/// Puts another service behind Envoy.
fn put_behind(yaml: &mut ShippedYaml, port: u16) -> Result<(), HarnessError> {
    yaml.replace("route: {cluster: upstream, timeout: 30s}", "route: {cluster: planting}")?;
    let endpoint = format!(
        "    - lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]"
    );
    let cluster = [
        "- name: planting",
        "  type: STATIC",
        "  load_assignment:",
        "    cluster_name: planting",
        "    endpoints:",
    ];
    yaml.insert_below("clusters:", &[cluster.as_slice(), &[endpoint.as_str()]].concat())
}

#[test]
fn a_service_neither_plants_a_session_nor_takes_the_mark_away() {
    let service = ScriptedServer::tcp(|_, _| {
        let set = [
            "theme=dark; Path=/",
            "__Host-kerbridge-00125d9250be8b4c=planted; Secure; Path=/",
            "__Host-kerbridge-logged-out=; Secure; Path=/; Max-Age=0",
            "lang=en",
        ];
        let lines: String = set.map(|line| format!("Set-Cookie: {line}\r\n")).concat();
        Reply::Raw(format!("HTTP/1.1 200 OK\r\n{lines}content-length: 2\r\n\r\nin").into_bytes())
    })
    .unwrap();
    let port = service.port();
    let world = builder().yaml(move |yaml| put_behind(yaml, port)).start().unwrap();
    let names = |answer: &Answer| {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let name = |line: &str| line.split_once('=').unwrap().0.to_owned();
        answer.all("set-cookie").into_iter().map(name).collect::<Vec<_>>()
    };
    let others = ["theme".to_owned(), "lang".to_owned()];
    // Behind a ticket, ours comes last; behind a token, whether it was seen before or not; where nothing is asked for.
    let first = world.curl_as("alice", "/orders/1").send().unwrap();
    let ours = "__Host-kerbridge-00125d9250be8b4c".to_owned();
    assert_eq!(names(&first), [&others[..], &[ours]].concat());
    let cookie = first.all("set-cookie")[2].split_once(';').unwrap().0.to_owned();
    assert!(!cookie.contains("planted"), "{cookie}");
    let token = cookie.split_once('=').unwrap().1;
    for _ in 0..ASKED {
        assert_eq!(names(&world.curl("/orders/1").bearer(token).send().unwrap()), others);
        assert_eq!(
            names(
                &with_cookies(world.curl("/orders/1").http2(), &[&cookie])
                    .send()
                    .unwrap()
            ),
            others
        );
        assert_eq!(names(&world.curl("/healthz").send().unwrap()), others);
    }
}
