//! Many users over few connections: nobody ever arrives with somebody else's ticket.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::*;

/// The ticket that the script gives for a token: always the same, and another for each token.
fn ticket_for(token: &str) -> String {
    let mut hash = DefaultHasher::new();
    token.hash(&mut hash);
    format!("YAAA{:016}", hash.finish() % 10_000_000_000_000_000)
}

#[test]
fn many_users_over_pooled_connections_are_never_crossed() {
    const USERS: usize = 50;
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 250;
    // Says who came, on connections that Envoy uses again for anybody.
    let service = ScriptedServer::tcp(|_, request| Reply::ok(&credentials(request).join("|"))).unwrap();
    let world = World::builder()
        .lab_issuer()
        .concurrency(2)
        .intercept(|call| {
            let form = form(&call.body);
            let asks = target(call) == "/oauth2/token" && member(&form, "requested_token_type") == [TICKET_TYPE];
            asks.then(|| granted(&ticket_for(member(&form, "subject_token")[0])))
        })
        .legacy_in_clear(service.port())
        .start()
        .unwrap();
    let key = world.lab_key().unwrap();
    let tokens: Vec<String> = (0..USERS)
        .map(|user| {
            let claims = claims(LAB_ISSUER, &format!("user-{user}"), "legacy", "");
            key.sign(&key.header(), &claims).unwrap()
        })
        .collect();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (world, tokens) = (&world, &tokens);
            scope.spawn(move || {
                let mut connection = world.connect().unwrap();
                let mut user = client;
                for _ in 0..REQUESTS {
                    // A walk that visits everybody in another order on each connection.
                    user = (user * 31 + client + 7) % USERS;
                    let token = &tokens[user];
                    let request = Request::get("/legacy/x").header("authorization", format!("Bearer {token}"));
                    let answer = connection.exchange(&request).unwrap();
                    let expected = format!("Negotiate {}", ticket_for(token));
                    assert_eq!((answer.status, answer.text()), (200, expected));
                }
            });
        }
    });
    let total = u64::try_from(CLIENTS * REQUESTS).unwrap();
    assert_eq!(
        world.stat("wasmcustom.kerbridge.tickets.reason.ok.issuer.lab"),
        Some(total)
    );
    // They did share connections.
    let opened = world.stat("cluster.legacy.upstream_cx_total").unwrap();
    assert!(opened < total / 10, "{opened} connections");
}
