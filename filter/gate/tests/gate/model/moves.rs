//! What may happen, drawn at random.

use super::*;

/// A token to be signed; times are seconds around [`NOW`].
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) issuer: usize,
    pub(super) kid: usize,
    pub(super) forged_by: Option<(usize, usize)>,
    pub(super) issued: u64,
    pub(super) life: u64,
    pub(super) audience: &'static str,
    pub(super) may_read: bool,
    pub(super) person: u8,
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    Pass(u64),
    /// An issuer publishes these keys from now on.
    Rotate(usize, Vec<usize>),
    /// The poller fetches an issuer's keys.
    FetchKeys(usize),
    /// Somebody takes a token, a session or a person's tokens back at the broker.
    Revoke {
        token: Index,
        by: u8,
        bounded: bool,
    },
    /// The broker's feed arrives, signed that long ago.
    FeedArrives(u64),
    /// A request; `brings` says whether a fetch for an unknown key brings what is published.
    Present {
        place: Place,
        shape: Shape,
        token: Index,
        brings: bool,
    },
    /// A ticket comes and waits for the broker.
    Ticket,
    /// The broker answers one that waits: with a token, with a refusal, or not at all.
    Answer {
        waiting: Index,
        with: Result<Index, Option<Reason>>,
    },
    /// The root looks after the requests that passed and are still open.
    LookAfter,
}

pub(super) fn draft() -> impl Strategy<Value = Draft> {
    (
        0..2_usize,
        0..KEYS,
        proptest::option::weighted(0.15, (0..2_usize, 0..KEYS)),
        0..400_u64,
        1..900_u64,
        prop_oneof![6 => Just("orders"), 2 => Just("billing"), 3 => Just("api://orders")],
        proptest::bool::weighted(0.8),
        0..3_u8,
    )
        .prop_map(
            |(issuer, kid, forged_by, issued, life, audience, may_read, person)| Draft {
                issuer,
                kid,
                forged_by,
                issued: NOW - 200 + issued,
                life,
                audience,
                may_read,
                person,
            },
        )
}

pub(super) fn action() -> impl Strategy<Value = Action> {
    let place = prop_oneof![
        6 => Just(Place::Orders), 1 => Just(Place::Open), 2 => Just(Place::Optional), 2 => Just(Place::Dry),
        2 => Just(Place::Billing), 4 => Just(Place::Legacy), 1 => Just(Place::Nowhere),
    ];
    let shape = prop_oneof![
        8 => Just(Shape::Header), 2 => Just(Shape::Cookie), 1 => Just(Shape::Nothing), 1 => Just(Shape::HeaderTwice),
        1 => Just(Shape::HeaderAndBadCookie), 1 => Just(Shape::Query), 1 => Just(Shape::HeaderWithoutTls),
    ];
    let refusal = prop_oneof![
        Just(None),
        Just(Some(Reason::Replay)),
        Just(Some(Reason::RealmNotAllowed)),
        Just(Some(Reason::BrokerOverloaded)),
    ];
    prop_oneof![
        4 => prop_oneof![0..5_u64, 0..60_u64, 200..320_u64].prop_map(Action::Pass),
        2 => (0..2_usize, proptest::sample::subsequence(vec![0, 1, 2], 1..=KEYS)).prop_map(|(i, k)| Action::Rotate(i, k)),
        4 => (0..2_usize).prop_map(Action::FetchKeys),
        2 => (any::<Index>(), 0..3_u8, any::<bool>())
            .prop_map(|(token, by, bounded)| Action::Revoke { token, by, bounded }),
        4 => prop_oneof![3 => Just(0), 1 => 0..400_u64].prop_map(Action::FeedArrives),
        20 => (place, shape, any::<Index>(), any::<bool>())
            .prop_map(|(place, shape, token, brings)| Action::Present { place, shape, token, brings }),
        2 => Just(Action::Ticket),
        2 => (any::<Index>(), prop_oneof![4 => any::<Index>().prop_map(Ok), 1 => refusal.prop_map(Err)])
            .prop_map(|(waiting, with)| Action::Answer { waiting, with }),
        2 => Just(Action::LookAfter),
    ]
}

pub(super) fn sign(keys: &[Vec<Key>; 2], number: usize, draft: &Draft) -> Token {
    let (id, session) = (format!("j{number}"), format!("s{}", number / 2));
    let subject = format!("person{}@LAB.TEST", draft.person);
    let signed_by = draft.forged_by.unwrap_or((draft.issuer, draft.kid));
    let (issued, expires, scope) = (
        draft.issued,
        draft.issued + draft.life,
        if draft.may_read { "read" } else { "list" },
    );
    let header = keys[draft.issuer][draft.kid].header();
    let payload = format!(
        r#"{{"iss":"{}","sub":"{subject}","aud":"{}","client_id":"c","iat":{issued},"exp":{expires},"jti":"{id}","sid":"{session}","scope":"{scope}"}}"#,
        ISSUERS[draft.issuer], draft.audience
    );
    Token {
        text: keys[signed_by.0][signed_by.1].sign(&header, &payload),
        issuer: draft.issuer,
        kid: draft.kid,
        signed_by,
        issued,
        expires,
        audience: draft.audience,
        may_read: draft.may_read,
        id,
        session,
        subject,
    }
}
