//! What the library does with a token that is bound to another channel, and what that costs the token.

use kerbridge_gss::{AcceptErrorKind, BindingsProbe, BindingsVerdict, ChannelBindings, Mechanism};

use crate::world::{HTTP, OTHER, World, established, in_world, request, service_principal, token};

const MECHANISMS: [Mechanism; 2] = [Mechanism::Spnego, Mechanism::Krb5];

fn certificate(byte: u8) -> ChannelBindings {
    ChannelBindings::tls_server_end_point(&[byte; 32])
}

fn bound(world: &World, mechanism: &Mechanism, bindings: Option<ChannelBindings>) -> kerbridge_gss::MechToken {
    let mut request = request(HTTP, mechanism.clone());
    request.bindings = bindings;
    token(&world.alice(), &request)
}

/// The reason why a second certificate is never tried with the credential that accepts. Should the library change this, the
/// probe is no longer needed.
#[test]
fn a_token_that_was_refused_for_its_channel_is_used_up() {
    in_world(
        "bindings::a_token_that_was_refused_for_its_channel_is_used_up",
        |world| {
            for mechanism in MECHANISMS {
                let acceptor = world.acceptor();
                let token = bound(world, &mechanism, Some(certificate(1)));
                for kind in [AcceptErrorKind::BindingsMismatch, AcceptErrorKind::Replay] {
                    let error = acceptor.accept(token.as_bytes(), Some(&certificate(2))).unwrap_err();
                    assert_eq!(error.kind(), kind, "{mechanism}: {error}");
                }
                let error = acceptor.accept(token.as_bytes(), Some(&certificate(1))).unwrap_err();
                assert_eq!(error.kind(), AcceptErrorKind::Replay, "{mechanism}: {error}");
            }
        },
    );
}

#[test]
fn a_probe_says_which_channel_it_is_and_leaves_the_token_whole() {
    in_world(
        "bindings::a_probe_says_which_channel_it_is_and_leaves_the_token_whole",
        |world| {
            let probe = BindingsProbe::acquire(&service_principal(HTTP), &world.keytab()).unwrap();
            for mechanism in MECHANISMS {
                let acceptor = world.acceptor();
                let token = bound(world, &mechanism, Some(certificate(1)));
                for _ in 0..2 {
                    for (other, verdict) in [(2, BindingsVerdict::OtherChannel), (1, BindingsVerdict::Bound)] {
                        let found = probe.compare(token.as_bytes(), &certificate(other)).unwrap();
                        assert_eq!(found, verdict, "{mechanism}");
                    }
                }
                assert!(
                    established(&acceptor, &token, Some(&certificate(1)))
                        .flags()
                        .channel_bound()
                );
                // The probe knows nothing of replays, and lets nobody in.
                let found = probe.compare(token.as_bytes(), &certificate(1)).unwrap();
                assert_eq!(found, BindingsVerdict::Bound);
                let error = acceptor.accept(token.as_bytes(), Some(&certificate(1))).unwrap_err();
                assert_eq!(error.kind(), AcceptErrorKind::Replay, "{mechanism}: {error}");

                let unbound = bound(world, &mechanism, None);
                let found = probe.compare(unbound.as_bytes(), &certificate(1)).unwrap();
                assert_eq!(found, BindingsVerdict::Unbound, "{mechanism}");
            }
        },
    );
}

#[test]
fn a_probe_refuses_what_accepting_would_refuse() {
    in_world("bindings::a_probe_refuses_what_accepting_would_refuse", |world| {
        let probe = BindingsProbe::acquire(&service_principal(HTTP), &world.keytab()).unwrap();
        for mechanism in MECHANISMS {
            let other = token(&world.alice(), &request(OTHER, mechanism));
            let error = probe.compare(other.as_bytes(), &certificate(1)).unwrap_err();
            assert_eq!(error.kind(), AcceptErrorKind::WrongPrincipal, "{error}");
        }
        let error = probe.compare(b"", &certificate(1)).unwrap_err();
        assert_eq!(error.kind(), AcceptErrorKind::DefectiveToken);
    });
}

/// Such a client counts as one that bound to something else: it could have bound.
#[test]
fn a_client_that_says_it_could_bind_and_does_not_is_refused() {
    in_world(
        "bindings::a_client_that_says_it_could_bind_and_does_not_is_refused",
        |world| {
            let config = world.kdc.krb5_config();
            let text = std::fs::read_to_string(config).unwrap();
            let aware = text.replacen(
                "[libdefaults]\n",
                "[libdefaults]\nclient_aware_channel_bindings = true\n",
                1,
            );
            assert_ne!(aware, text);
            std::fs::write(config, aware).unwrap();
            for mechanism in MECHANISMS {
                let acceptor = world.acceptor();
                let unbound = bound(world, &mechanism, None);
                let error = acceptor.accept(unbound.as_bytes(), Some(&certificate(1))).unwrap_err();
                assert_eq!(error.kind(), AcceptErrorKind::BindingsMismatch, "{mechanism}: {error}");
                // Where bindings are not looked at it is a client like any other.
                established(&acceptor, &bound(world, &mechanism, None), None);
            }
        },
    );
}
