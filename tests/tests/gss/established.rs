//! What an accepted ticket proves.

use kerbridge_gss::{
    AcceptorCredential, AcquireErrorKind, ChannelBindings, ContextFlags, InitiateErrorKind, InitiatorCredential,
    Mechanism,
};

use crate::world::{HTTP, OTHER, established, in_world, now, request, service_principal, token};

#[test]
fn a_ticket_names_who_came_and_when_it_ends() {
    in_world("established::a_ticket_names_who_came_and_when_it_ends", |world| {
        let ccache = world.kdc.kinit_with("alice", &["-l", "1h"]).unwrap();
        let alice = InitiatorCredential::from_ccache(ccache.path()).unwrap();
        assert_eq!(alice.principal().as_str(), "alice@LAB.TEST");
        let acceptor = world.acceptor();
        for mechanism in [Mechanism::Spnego, Mechanism::Krb5] {
            let mut initiation = alice.initiate(&request(HTTP, mechanism)).unwrap();
            let context = established(&acceptor, &initiation.token, None);
            assert_eq!(context.initiator().as_str(), "alice@LAB.TEST");
            assert_eq!(context.target().as_str(), HTTP);
            assert_eq!(context.mechanism(), &Mechanism::Krb5);
            assert!(context.ticket_flags().forwardable() && !context.ticket_flags().initial());
            assert!(context.flags().mutual() && !context.flags().channel_bound() && !context.flags().delegated());

            let age = now() - context.auth_time();
            assert!(age <= 30, "authenticated {age} s ago");
            let life = context.ticket_end() - context.auth_time();
            assert!((3599..=3601).contains(&life), "the ticket lives {life} s");
            // The reported lifetime has the clock skew on top, which is why it is not used.
            let excess = u64::from(context.reported_lifetime()) + now() - context.ticket_end();
            assert!((298..=302).contains(&excess), "{excess} s too many");

            assert!(!initiation.context.is_established());
            let nothing_more = initiation.context.answer(context.reply().unwrap().as_bytes()).unwrap();
            assert_eq!(nothing_more, None);
            assert!(initiation.context.is_established() && initiation.context.flags().mutual());
        }
    });
}

#[test]
fn an_answer_for_another_exchange_proves_nothing() {
    in_world("established::an_answer_for_another_exchange_proves_nothing", |world| {
        let (alice, acceptor) = (world.alice(), world.acceptor());
        let request = request(HTTP, Mechanism::Krb5);
        let other = established(&acceptor, &token(&alice, &request), None);
        let mut initiation = alice.initiate(&request).unwrap();
        let error = initiation
            .context
            .answer(other.reply().unwrap().as_bytes())
            .unwrap_err();
        assert_eq!(error.kind(), InitiateErrorKind::MutualAuthenticationFailed, "{error}");
        assert!(!initiation.context.is_established());
    });
}

#[test]
fn a_client_that_asks_for_no_proof_gets_none() {
    in_world("established::a_client_that_asks_for_no_proof_gets_none", |world| {
        let mut request = request(HTTP, Mechanism::Krb5);
        request.mutual = false;
        let context = established(&world.acceptor(), &token(&world.alice(), &request), None);
        assert!(!context.flags().mutual());
        assert_eq!(context.reply(), None);
    });
}

#[test]
fn an_ended_ticket_is_accepted_within_the_skew_and_says_so() {
    in_world(
        "established::an_ended_ticket_is_accepted_within_the_skew_and_says_so",
        |world| {
            let ccache = world.kdc.kinit_with("alice", &["-l", "60s"]).unwrap();
            let alice = InitiatorCredential::from_ccache(ccache.path()).unwrap();
            let outcome = world.accept_at("+120s", &token(&alice, &request(HTTP, Mechanism::Spnego)));
            let seconds = outcome
                .strip_prefix("alice@LAB.TEST ended ")
                .and_then(|rest| rest.strip_suffix(" s ago"));
            let seconds: u64 = seconds.unwrap_or_else(|| panic!("{outcome}")).parse().unwrap();
            assert!((58..=65).contains(&seconds), "{outcome}");
        },
    );
}

#[test]
fn users_are_told_apart_by_the_whole_name() {
    in_world("established::users_are_told_apart_by_the_whole_name", |world| {
        let acceptor = world.acceptor();
        for user in ["alice/admin", "Alice", "bob"] {
            world.kdc.add_user(user, "battery staple").unwrap();
            let credential = InitiatorCredential::from_ccache(world.kdc.kinit(user).unwrap().path()).unwrap();
            let context = established(&acceptor, &token(&credential, &request(HTTP, Mechanism::Spnego)), None);
            assert_eq!(context.initiator().as_str(), format!("{user}@LAB.TEST"));
        }
    });
}

#[test]
fn old_and_new_keys_work_together_in_a_keytab_replaced_while_in_use() {
    in_world(
        "established::old_and_new_keys_work_together_in_a_keytab_replaced_while_in_use",
        |world| {
            let (acceptor, spnego) = (world.acceptor(), request(HTTP, Mechanism::Spnego));
            let with_old_key = world.alice();
            established(&acceptor, &token(&with_old_key, &spnego), None);
            world.kdc.rotate_key(HTTP).unwrap();
            let replacement = world.file("replacement");
            std::fs::copy(world.keytab(), &replacement).unwrap();
            world.kdc.extract_keytab(&[HTTP], &replacement).unwrap();
            std::fs::rename(&replacement, world.keytab()).unwrap();
            established(&acceptor, &token(&with_old_key, &spnego), None);
            established(&acceptor, &token(&world.alice(), &spnego), None);
        },
    );
}

#[test]
fn a_binding_is_reported_only_when_both_sides_have_the_same() {
    in_world(
        "established::a_binding_is_reported_only_when_both_sides_have_the_same",
        |world| {
            let (alice, acceptor) = (world.alice(), world.acceptor());
            let ours = ChannelBindings::tls_server_end_point(&[0xa5; 32]);
            for mechanism in [Mechanism::Spnego, Mechanism::Krb5] {
                let accept = |client: Option<&ChannelBindings>, server| {
                    let mut request = request(HTTP, mechanism.clone());
                    request.bindings = client.cloned();
                    established(&acceptor, &token(&alice, &request), server).flags()
                };
                let bound = ContextFlags::channel_bound;
                assert!(bound(accept(Some(&ours), Some(&ours))));
                assert!(
                    !bound(accept(None, Some(&ours))),
                    "passing bindings does not enforce them"
                );
                assert!(!bound(accept(Some(&ours), None)));
            }
        },
    );
}

#[test]
fn a_credential_is_acquired_only_for_a_principal_in_the_keytab() {
    in_world(
        "established::a_credential_is_acquired_only_for_a_principal_in_the_keytab",
        |world| {
            let acquire = |service: &str, keytab: &str| {
                AcceptorCredential::acquire(&service_principal(service), &world.file(keytab), &world.file("rcache"))
            };
            let refused = acquire(OTHER, "http.keytab").unwrap_err();
            let AcquireErrorKind::PrincipalAbsent { held } = refused.kind() else {
                panic!("{refused:?}")
            };
            assert_eq!(
                held.iter().map(|principal| principal.as_str()).collect::<Vec<_>>(),
                [HTTP]
            );
            for service in [
                "HTTP/localhost@OTHER.TEST",
                "http/localhost@LAB.TEST",
                "HTTP/localhost/x@LAB.TEST",
            ] {
                assert!(matches!(
                    acquire(service, "http.keytab").unwrap_err().kind(),
                    AcquireErrorKind::PrincipalAbsent { .. }
                ));
            }
            assert!(matches!(
                acquire(HTTP, "absent").unwrap_err().kind(),
                AcquireErrorKind::Keytab(_)
            ));
        },
    );
}

#[test]
fn an_initiator_says_what_is_missing() {
    in_world("established::an_initiator_says_what_is_missing", |world| {
        let absent = InitiatorCredential::from_ccache(&world.file("absent")).unwrap_err();
        assert!(matches!(absent.kind(), AcquireErrorKind::NoCredential), "{absent}");
        assert!(
            absent.detail().is_some_and(|detail| !detail.minor_text().is_empty()),
            "{absent}"
        );
        for mechanism in [Mechanism::Spnego, Mechanism::Krb5] {
            let unknown = world
                .alice()
                .initiate(&request("HTTP/nobody@LAB.TEST", mechanism))
                .unwrap_err();
            assert_eq!(unknown.kind(), InitiateErrorKind::ServiceUnknown, "{unknown}");
        }
    });
}

#[test]
fn a_keytab_lists_what_kadmin_wrote() {
    in_world("established::a_keytab_lists_what_kadmin_wrote", |world| {
        world.kdc.rotate_key(OTHER).unwrap();
        world.kdc.extract_keytab(&[OTHER], &world.keytab()).unwrap();
        let keytab = kerbridge_gss::Keytab::open(&world.keytab()).unwrap();
        let entries: Vec<_> = keytab
            .entries()
            .iter()
            .map(|entry| format!("{} {} {}", entry.principal(), entry.kvno(), entry.enctype()))
            .collect();
        assert_eq!(
            entries,
            [
                format!("{HTTP} 1 aes256-cts-hmac-sha1-96"),
                format!("{HTTP} 1 aes128-cts-hmac-sha1-96"),
                format!("{OTHER} 2 aes256-cts-hmac-sha1-96"),
                format!("{OTHER} 2 aes128-cts-hmac-sha1-96"),
            ]
        );
    });
}
