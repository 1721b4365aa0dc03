//! Tokens that are bound to the certificate of the client that got them (RFC 8705).

use kerbridge_tests::World;
use kerbridge_tests::certificates::Certificates;
use kerbridge_tests::shipped::policy_of_a_minter;
use kerbridge_tests::token::decode;
use kerbridge_tests::world::REALM;

#[test]
fn a_token_that_is_bound_to_a_certificate_opens_with_it_and_with_no_other() {
    let bound = policy_of_a_minter("localhost", REALM).unwrap().replacen(
        "name = \"orders\"\n",
        "name = \"orders\"\ncertificate_bound = true\nresource = \"https://localhost/orders\"\n",
        1,
    );
    let mut world = World::builder().policy(&bound).start().unwrap();
    let files = world.certificates().clone();
    // Envoy asks for a certificate, which nobody need show, and takes whoever signed it: only its digest matters.
    let validation = format!(
        "validation_context: {{trusted_ca: {{filename: {}}}, trust_chain_verification: ACCEPT_UNTRUSTED}}",
        files.authority.display()
    );
    world
        .restart_envoy(|yaml| yaml.insert_below("tls_params: {tls_minimum_protocol_version: TLSv1_2}", &[&validation]))
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let other = Certificates::create(folder.path()).unwrap();
    let with = |curl: kerbridge_tests::curl::Curl, files: &Certificates| {
        curl.arg("--cert")
            .arg(&files.client_certificate)
            .arg("--key")
            .arg(&files.client_private_key)
    };
    // Who shows no certificate gets no such token.
    let bare = world.curl_as("alice", "/orders/1").send().unwrap();
    assert_eq!(world.reason(&bare).unwrap(), (403, "denied_by_policy".into()));
    let first = with(world.curl_as("alice", "/orders/1"), &files).send().unwrap();
    assert_eq!(first.status, 200, "{}", world.broker().log());
    let token = first.header("x-kerbridge-token").unwrap().to_owned();
    assert!(decode(&token).unwrap().claims["cnf"]["x5t#S256"].is_string());
    for round in 0..2 {
        let own = with(world.curl("/orders/1").bearer(&token), &files).send().unwrap();
        assert_eq!(own.status, 200, "{round}");
        for curl in [
            world.curl("/orders/1").bearer(&token),
            with(world.curl("/orders/1").bearer(&token), &other),
        ] {
            let stolen = curl.send().unwrap();
            assert_eq!(world.reason(&stolen).unwrap(), (401, "certificate_mismatch".into()));
            let challenge = stolen.all("www-authenticate").join("\n");
            assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
            assert!(
                challenge
                    .contains("resource_metadata=\"https://localhost/.well-known/oauth-protected-resource/orders\""),
                "{challenge}"
            );
        }
    }
}
