//! The challenges of a Kerberos service are for us: none reaches the client, wherever it stands and whatever the host does.

use kerbridge_tests::shipped::{FAILURE_HEADER, module_that_traps};

use super::*;

fn challenges(answer: &kerbridge_tests::http::Response) -> Vec<String> {
    let lines = answer.headers.iter().chain(&answer.trailers);
    lines
        .map(|(name, _)| String::from_utf8_lossy(name).to_ascii_lowercase())
        .filter(|name| name.ends_with("-authenticate"))
        .collect()
}

#[test]
fn a_challenge_in_trailers_is_kept_back_and_the_other_trailers_arrive() {
    let scene = Scene::start(
        |_, _| {
            Reply::Raw(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nwww-authenticate: Negotiate ohead\r\n\r\n\
                  2\r\nin\r\n0\r\nwww-authenticate: Negotiate oservice\r\nProxy-Authenticate: Basic\r\nx-check: 7\r\n\r\n"
                    .to_vec(),
            )
        },
        |builder| builder.yaml(with_trailers),
    );
    let answer = scene.world.send(&scene.bearer(Request::get("/legacy/x"))).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "in"));
    assert_eq!(challenges(&answer), [""; 0]);
    assert_eq!(answer.trailers, [(b"x-check".to_vec(), b"7".to_vec())]);
}

#[test]
fn nothing_goes_down_where_the_host_does_not_say_whose_answer_it_is() {
    let scene = Scene::start(
        |n, _| {
            let failure = if n == 0 { FAILURE_HEADER } else { "x-check" };
            let head = format!("HTTP/1.1 403 Scripted\r\nwww-authenticate: Negotiate\r\n{failure}: 1\r\n");
            Reply::Raw(format!("{head}content-length: 0\r\n\r\n").into_bytes())
        },
        |builder| builder.yaml(|yaml| yaml.set_module(&module_that_traps()?)),
    );
    let request = scene.bearer(Request::get("/legacy/x"));
    let answer = scene.world.send(&request);
    assert!(answer.is_err(), "{answer:?}");
    let answer = scene.world.send(&request).unwrap();
    assert_eq!((answer.status, challenges(&answer)), (403, vec![]));
    assert_eq!(scene.world.reloads(), Some(0));
}
