//! Where Envoy's configuration and the policy are not of one mind, nobody gets a ticket, and the log says what to mend.

use super::*;

/// A scene that lets requests pass to the service's cluster in another way than as the policy means.
fn misled(vary: impl FnOnce(WorldBuilder) -> WorldBuilder) -> Scene {
    Scene::start(|_, _| Reply::ok("in"), vary)
}

fn assert_no_ticket(scene: &Scene, request: &Request, expected: (u16, &str), logged: &str) {
    let (status, reason) = scene.refused(request);
    assert_eq!((status, reason.as_str()), expected);
    assert!(scene.tickets.asked().is_empty(), "the broker was asked");
    assert!(scene.world.envoy_log().contains(logged), "{}", scene.world.envoy_log());
}

#[test]
fn a_ticket_for_one_service_is_never_brought_to_another() {
    let scene = misled(|builder| {
        builder.yaml(|yaml| {
            yaml.replace(
                "value: '{\"upstream\":{\"kerberos\":{\"spn\":\"HTTP/legacy.",
                "value: '{\"upstream\":{\"kerberos\":{\"spn\":\"HTTP/other.",
            )
        })
    });
    let logged = "the policy leads to HTTP/legacy.lab.test@LAB.TEST, Envoy's routes lead to a cluster that is HTTP/other.lab.test@LAB.TEST";
    assert_no_ticket(
        &scene,
        &scene.bearer(Request::get("/legacy/x")),
        (503, "internal"),
        logged,
    );
    assert_eq!(scene.counted("internal", "lab"), 1);
}

#[test]
fn what_did_not_pass_as_one_for_a_kerberos_service_gets_nothing_there() {
    let scene = misled(|builder| {
        builder.yaml(|yaml| yaml.replace("match: {path_separated_prefix: /legacy}", "match: {prefix: /}"))
    });
    let key = scene.world.lab_key().unwrap();
    let orders = key
        .sign(&key.header(), &claims(LAB_ISSUER, "alice", "orders", "orders:read"))
        .unwrap();
    let known = Request::get("/orders/1").header("authorization", format!("Bearer {orders}"));
    let logged = "no route with `upstream` in the policy let through what came to HTTP/legacy.lab.test@LAB.TEST";
    // The second time the token is known.
    for request in [Request::get("/healthz"), known.clone(), known] {
        assert_no_ticket(&scene, &request, (403, "denied_by_policy"), logged);
    }
    assert_eq!(scene.counted("denied_by_policy", "-"), 3);
    assert_eq!(
        scene
            .world
            .send(&scene.bearer(Request::get("/legacy/x")))
            .unwrap()
            .status,
        200
    );
}

#[test]
fn a_cluster_without_the_filter_gets_neither_ticket_nor_credential_and_its_challenge_stays_here() {
    let scene = Scene::start(
        |_, _| {
            Reply::Raw(
                b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Negotiate\r\ncontent-length: 0\r\n\r\n".to_vec(),
            )
        },
        |builder| builder.yaml(|yaml| yaml.remove_block("- name: kerbridge_upstream")),
    );
    let answer = scene.world.send(&scene.bearer(Request::get("/legacy/x"))).unwrap();
    let refusal = scene.world.refusal(answer.status, &answer.body).unwrap();
    assert_eq!(
        (refusal.status, refusal.reason.as_str()),
        (502, "upstream_refused_ticket")
    );
    assert!(answer.header("www-authenticate").is_none());
    assert!(tickets_of(&scene.service).iter().all(Vec::is_empty));
}

#[test]
fn filters_in_two_vms_hand_nothing_on() {
    let scene = misled(|builder| {
        builder.yaml(|yaml| {
            yaml.replace(
                "# That of the listener's filter: they must be in one VM.\n                vm_id: kerbridge\n",
                "vm_id: another\n",
            )
        })
    });
    let logged = "vm_id and code must be those of the listener's filter at HTTP/legacy.lab.test@LAB.TEST";
    assert_no_ticket(
        &scene,
        &scene.bearer(Request::get("/legacy/x")),
        (503, "internal"),
        logged,
    );
    assert_eq!(scene.counted("internal", "-"), 1);
}

/// As Istio makes of a `WasmPlugin` and of an `EnvoyFilter` for the cluster: neither VM has a name, both have the same code.
#[test]
fn filters_in_a_vm_without_a_name_meet_by_their_code() {
    let scene = misled(|builder| {
        builder.yaml(|yaml| {
            for _plugin in 0..2 {
                yaml.remove_block_below("static_resources:", "vm_id: kerbridge")?;
                yaml.remove_block_below("static_resources:", "capability_restriction_config:")?;
            }
            Ok(())
        })
    });
    let answer = scene.world.send(&scene.bearer(Request::get("/legacy/x"))).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn an_answer_of_another_filter_of_envoys_stays_as_it_is() {
    let scene = misled(|builder| {
        builder.yaml(|yaml| {
            lua(
                yaml,
                "function envoy_on_request(handle) \
                 handle:respond({[':status'] = '401', ['www-authenticate'] = 'Basic'}, 'mine') end",
            )
        })
    });
    let answer = scene.world.send(&scene.bearer(Request::get("/legacy/x"))).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (401, "mine"));
    assert_eq!(answer.header_text("www-authenticate").as_deref(), Some("Basic"));
}

#[test]
fn a_client_cannot_hand_itself_on() {
    let scene = misled(|builder| {
        builder.yaml(|yaml| yaml.replace("match: {path_separated_prefix: /legacy}", "match: {prefix: /}"))
    });
    assert_eq!(
        scene
            .world
            .send(&scene.bearer(Request::get("/legacy/x")))
            .unwrap()
            .status,
        200
    );
    for name in ["wasm.kerbridge.handle", "kerbridge.handle", "x-kerbridge-handle"] {
        for value in ["1.1", "0.0", "1"] {
            let request = Request::get("/healthz").header(name, value);
            let answer = scene.world.send(&request).unwrap();
            assert_eq!(answer.status, 403, "{name}");
        }
    }
    assert_eq!(scene.service.requests().len(), 1);
}
