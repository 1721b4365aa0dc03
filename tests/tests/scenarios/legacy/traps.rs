//! The module traps while attempts wait or are under way: all end closed, and the next request is served.

use kerbridge_tests::shipped::{TRAP_HEADER, module_that_traps};

use super::*;

/// What the two time-outs of 30 s in the shipped file are here.
const LIMIT: &str = "5s";

fn scene_with(
    script: impl Fn(usize, &Incoming) -> Reply + Send + Sync + 'static,
    more: impl FnOnce(&mut ShippedYaml) -> Result<(), HarnessError> + 'static,
) -> Scene {
    Scene::start(script, |builder| {
        builder
            .filter(|filter| filter["broker"]["timeout"] = json!("20s"))
            .yaml(move |yaml| {
                yaml.set_module(&module_that_traps()?)?;
                for limit in ["request_timeout", "stream_idle_timeout"] {
                    yaml.replace(&format!("{limit}: 30s"), &format!("{limit}: {LIMIT}"))?;
                }
                more(yaml)
            })
    })
}

/// Lets the module trap while this request is under way, and says what became of that one.
fn trap_during(scene: &Scene, request: &Request, is_under_way: impl Fn() -> bool, then: impl FnOnce()) -> u16 {
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| scene.world.send(request).map(|answer| answer.status));
        wait_until("the request", WITHIN, is_under_way).unwrap();
        let trap = Request::get("/healthz").header(TRAP_HEADER, "now");
        assert_eq!(scene.world.send(&trap).unwrap().status, 503);
        then();
        waits.join().unwrap().unwrap()
    })
}

fn assert_serves_again(scene: &Scene) {
    wait_until("a VM", WITHIN, || {
        let request = scene.bearer(Request::get("/legacy/x"));
        scene.world.send(&request).is_ok_and(|answer| answer.status == 200)
    })
    .unwrap();
}

#[test]
fn an_attempt_that_waits_when_the_module_traps_is_ended_and_never_arrives() {
    let scene = scene_with(|_, _| Reply::ok("in"), |_| Ok(()));
    scene.tickets.hold(true);
    let request = scene.bearer(Request::post("/legacy/x", "a body"));
    let asked = || !scene.tickets.asked().is_empty();
    let status = trap_during(&scene, &request, asked, || scene.tickets.hold(false));
    assert_eq!(status, 503);
    assert!(scene.service.requests().iter().all(|request| !request.complete));
    assert_serves_again(&scene);
}

/// A request that had passed when the module trapped, and whose attempt begins later, since another filter held it in between.
/// One of somebody else's requests then has the number in the new VM that this one had in the old: were there but numbers, it
/// would be taken for that.
#[test]
fn a_request_that_passed_before_a_trap_gets_no_ticket_and_least_of_all_another_ones() {
    const BOBS: usize = 24;
    // Holds what comes, by its number.
    let released: Arc<Mutex<Vec<usize>>> = Arc::default();
    let lets_go = Arc::clone(&released);
    let gate = ScriptedServer::tcp(move |number, _| {
        wait_until("the release", WITHIN, || lets_go.lock().unwrap().contains(&number)).unwrap();
        Reply::ok("")
    })
    .unwrap();
    let port = gate.port();
    let scene = scene_with(
        |_, _| Reply::ok("in"),
        move |yaml| {
            hold_in_between(yaml)?;
            yaml.insert_below(
                "clusters:",
                &[
                    "- name: in_between",
                    "  connect_timeout: 1s",
                    "  load_assignment:",
                    "    cluster_name: in_between",
                    "    endpoints:",
                    &format!(
                        "    - lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]"
                    ),
                ],
            )
        },
    );
    let (alice, bob) = (scene.token("alice"), scene.token("bob"));
    let held = |token: &str| Request::get("/legacy/held").header("authorization", format!("Bearer {token}"));
    let held_are = |count: usize| gate.requests().len() == count;
    // Alice's number in the old VM is one of those that bob's many requests have in the new one.
    for _ in 0..12 {
        assert_eq!(scene.world.send(&Request::get("/healthz")).unwrap().status, 200);
    }
    std::thread::scope(|scope| {
        let alices = scope.spawn(|| scene.world.send(&held(&alice)).unwrap());
        wait_until("alice's request in between", WITHIN, || held_are(1)).unwrap();
        let trap = Request::get("/healthz").header(TRAP_HEADER, "now");
        assert_eq!(scene.world.send(&trap).unwrap().status, 503);
        assert_serves_again(&scene);
        let bobs: Vec<_> = (0..BOBS)
            .map(|_| scope.spawn(|| scene.world.send(&held(&bob)).unwrap()))
            .collect();
        wait_until("bob's requests in between", WITHIN, || held_are(1 + BOBS)).unwrap();
        released.lock().unwrap().push(0);
        assert_eq!(alices.join().unwrap().status, 503);
        released.lock().unwrap().extend(1..=BOBS);
        for bobs in bobs {
            assert_eq!(bobs.join().unwrap().status, 200);
        }
    });
    let asked = scene.tickets.asked();
    let asked_for = |token: &str| {
        asked
            .iter()
            .filter(|form| member(form, "subject_token") == [token])
            .count()
    };
    assert_eq!(
        (asked_for(&alice), asked_for(&bob)),
        (0, BOBS),
        "tickets, and they are bob's"
    );
    let log = scene.world.envoy_log();
    assert!(
        log.contains("vm_id and code must be those of the listener's filter"),
        "{log}"
    );
}

/// A filter behind ours that waits for somebody.
fn hold_in_between(yaml: &mut ShippedYaml) -> Result<(), HarnessError> {
    lua(
        yaml,
        "function envoy_on_request(handle) if handle:headers():get(':path') == '/legacy/held' then \
         handle:httpCall('in_between', {[':method'] = 'GET', [':path'] = '/', [':authority'] = 'a'}, '', 20000) end end",
    )
}
