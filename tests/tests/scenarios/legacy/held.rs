//! Until the ticket is there nothing of an attempt goes to the service: no head, no body, no trailers.

use kerbridge_tests::http::Connection;
use kerbridge_tests::scripted_server::Reply;
use kerbridge_tests::tls::TlsStream;

use super::*;

fn scene(stop_iteration: bool) -> Scene {
    Scene::start(
        |_, request| Reply::ok(&format!("{} {}", request.body.len(), request.trailers.len())),
        |builder| {
            builder
                .filter(|filter| filter["broker"]["timeout"] = json!("10s"))
                .yaml(move |yaml| {
                    with_trailers(yaml)?;
                    let option = format!("allow_on_headers_stop_iteration: {stop_iteration}");
                    yaml.insert_below("root_id: kerbridge_upstream", &[&option])
                })
        },
    )
}

fn send_head(scene: &Scene) -> Connection<TlsStream> {
    let mut connection = scene.world.connect().unwrap();
    let head = format!(
        "POST /legacy/x HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\r\n",
        scene.token("alice")
    );
    connection.send_raw(head.as_bytes()).unwrap();
    connection
}

/// Long enough for Envoy to have sent something that it should not have: it takes a millisecond.
fn assert_nothing_arrives(scene: &Scene) {
    std::thread::sleep(Duration::from_millis(300));
    assert!(
        scene.service.requests().is_empty(),
        "an attempt without a ticket arrived"
    );
}

const BODY: &[u8] = b"5\r\nfirst\r\n6\r\nsecond\r\n";
const END: &[u8] = b"0\r\nx-check: 7\r\n\r\n";

#[test]
fn a_body_and_trailers_wait_for_the_ticket() {
    for stop_iteration in [false, true] {
        let scene = scene(stop_iteration);
        scene.tickets.hold(true);
        let mut connection = send_head(&scene);
        scene.tickets.wait_until_asked(1);
        assert_nothing_arrives(&scene);
        connection.send_raw(BODY).unwrap();
        assert_nothing_arrives(&scene);
        connection.send_raw(END).unwrap();
        assert_nothing_arrives(&scene);
        scene.tickets.hold(false);
        let answer = connection.read_response().unwrap();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "11 1"),
            "{stop_iteration}"
        );
        assert_eq!(tickets_of(&scene.service), [negotiate(0)]);
    }
}

#[test]
fn a_body_of_a_request_that_gets_no_ticket_never_arrives() {
    for stop_iteration in [false, true] {
        let scene = scene(stop_iteration);
        scene.tickets.hold(true);
        scene.tickets.set(Some(Reply::status(500, "")));
        let mut connection = send_head(&scene);
        scene.tickets.wait_until_asked(1);
        connection.send_raw(BODY).unwrap();
        connection.send_raw(END).unwrap();
        scene.tickets.hold(false);
        let answer = connection.read_response().unwrap();
        let refusal = scene.world.refusal(answer.status, &answer.body).unwrap();
        assert_eq!(refusal.reason, "broker_unavailable");
        assert_nothing_arrives(&scene);
    }
}

#[test]
fn a_large_upload_waits_and_passes_whole_over_both_versions_of_http() {
    let scene = scene(false);
    let size = 5 << 20;
    for http2 in [false, true] {
        let before = scene.service.requests().len();
        scene.tickets.hold(true);
        let upload = scene
            .world
            .curl("/legacy/x")
            .bearer(&scene.token("alice"))
            .body(vec![b'x'; size]);
        let upload = if http2 { upload.http2() } else { upload };
        let answer = std::thread::scope(|scope| {
            let sends = scope.spawn(|| upload.send().unwrap());
            scene.tickets.wait_until_asked(before + 1);
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(scene.service.requests().len(), before);
            scene.tickets.hold(false);
            sends.join().unwrap()
        });
        assert_eq!((answer.status, answer.text()), (200, format!("{size} 0")));
    }
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind() {
    let mut scene = scene(false);
    scene.tickets.hold(true);
    for round in 1..=5 {
        let connection = send_head(&scene);
        scene.tickets.wait_until_asked(round);
        drop(connection);
    }
    let envoy = scene.world.envoy();
    wait_until("the end of the requests", WITHIN, || {
        envoy.stat("http.https.downstream_rq_active") == Some(0)
    })
    .unwrap();
    scene.tickets.hold(false);
    let envoy = scene.world.envoy();
    wait_until("the end of the calls", WITHIN, || {
        envoy.stat("cluster.kerbridge_broker.upstream_rq_active") == Some(0)
    })
    .unwrap();
    assert!(scene.service.requests().iter().all(|request| !request.complete));
    assert_eq!(
        scene
            .world
            .send(&scene.bearer(Request::get("/legacy/x")))
            .unwrap()
            .status,
        200
    );
    assert_eq!(scene.world.reloads(), Some(0));
}
