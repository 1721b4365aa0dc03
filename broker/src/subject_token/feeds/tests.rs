use std::path::Path;

use kerbridge_wire::Span;

use super::*;
use crate::config::KeyPlace;
use crate::keyring::{KeyEncryptionKey, KeyRing};
use crate::policy::Policy;
use crate::problem::Problems;
use crate::revocation::{By, Order, Revocations};
use crate::store::{Kind, Target};
use crate::subject_token::{KeyTerms, VerifiedToken};

const OURS: &str = "https://broker.test";
const ROOT: By<'_> = By::Administrator { uid: Some(0) };

fn keyring(folder: &Path) -> KeyRing {
    KeyRing::open_or_create(folder, &KeyEncryptionKey::from_base64(&"A".repeat(43)).unwrap()).unwrap()
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds)
}

/// A broker that follows another's feed and has its keys.
fn follower(keys: &str) -> Feeds {
    let policy = r#"
        audience = [{ name = "orders" }]
        grant = [{ principals = ["*@A.TEST"], audience = "orders" }]
        route = [{ path = "/", access = "open" }]
    "#;
    let mut problems = Problems::default();
    let file = crate::strict_toml::read(policy, &mut problems).unwrap();
    let policy = Policy::build(&file, &mut problems).unwrap();
    let terms = KeyTerms {
        issuer: OURS.into(),
        poll: Span::TWO_SECONDS,
        max_staleness: Span::FIVE_MINUTES,
    };
    let one = std::slice::from_ref(&terms);
    let issuers = Issuers::new(OURS, &file, &policy, Some(keys.to_owned()), &[], one).unwrap();
    let source = KeySource {
        terms,
        place: KeyPlace::Unix {
            socket: "/nonexistent".into(),
            path: "/".into(),
        },
    };
    Feeds::start(vec![source], Arc::new(issuers)).unwrap()
}

impl Feeds {
    /// Follows nothing.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Follows a feed of `https://broker.test` of which nothing is ever heard.
    pub(crate) fn unheard(keys: &str) -> Self {
        follower(keys)
    }

    /// Asks the other broker what it would ask, and takes the answer.
    async fn hear(&self, revocations: &Revocations, keyring: &KeyRing, now: u64) -> Result<Taken, FeedError> {
        let tables = &self.0.as_ref().unwrap().tables;
        let question = tables.run(|tables| tables.question(0)).await.unwrap();
        let page = revocations.page(question, &keyring.signing()).await.unwrap().to_vec();
        tables.run(move |tables| tables.take(0, page, at(now))).await.unwrap()
    }

    async fn judge(&self, token: &VerifiedToken, now: u64) -> Result<(), Reason> {
        let deadline = Instant::now().checked_add(Duration::from_secs(10)).unwrap();
        self.check(token.issuer(), &token.feed_names(), at(now), deadline).await
    }
}

#[tokio::test]
async fn what_another_broker_revokes_is_refused_and_everything_while_it_is_not_heard() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = keyring(folder.path());
    let revocations = crate::revocation::tests::none();
    let feeds = follower(&keyring.jwks());
    let alice = VerifiedToken::for_test("alice@A.TEST", None, &[]);
    let foreign = alice.clone().by_another("https://idp.test", None);

    assert_eq!(feeds.judge(&alice, 2000).await, Err(Reason::FeedStale));
    assert_eq!(feeds.judge(&foreign, 2000).await, Ok(()), "nobody follows its feed");
    assert_eq!(feeds.hear(&revocations, &keyring, 2000).await, Ok(Taken::All));
    assert_eq!(feeds.judge(&alice, 2000).await, Ok(()));

    for (kind, value) in [
        (Kind::Token, "j"),
        (Kind::Session, "s"),
        (Kind::Subject, "alice@A.TEST"),
    ] {
        let target = || Target::new(kind, value).unwrap();
        let clock = Clock::Fixed(at(2001));
        revocations
            .revoke(Order::ban(target(), None), &ROOT, clock)
            .await
            .unwrap();
        assert_eq!(feeds.judge(&alice, 2001).await, Ok(()), "not heard yet");
        assert_eq!(feeds.hear(&revocations, &keyring, 2001).await, Ok(Taken::All));
        assert_eq!(feeds.judge(&alice, 2001).await, Err(Reason::Revoked), "{kind:?}");
        revocations.lift(&target(), &ROOT, clock).await.unwrap().unwrap();
        assert_eq!(feeds.hear(&revocations, &keyring, 2001).await, Ok(Taken::All));
        assert_eq!(feeds.judge(&alice, 2001).await, Ok(()), "{kind:?}");
    }

    assert_eq!(feeds.judge(&alice, 2301).await, Ok(()));
    assert_eq!(feeds.judge(&alice, 2302).await, Err(Reason::FeedStale));
    // That nothing was revoked is news, too.
    revocations.load(Clock::Fixed(at(2302))).await.unwrap();
    assert_eq!(feeds.hear(&revocations, &keyring, 2302).await, Ok(Taken::All));
    assert_eq!(feeds.judge(&alice, 2302).await, Ok(()));
}

#[tokio::test]
async fn a_page_that_somebody_else_signed_says_nothing() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [ours, another] = folders.each_ref().map(|folder| keyring(folder.path()));
    let revocations = crate::revocation::tests::none();
    let feeds = follower(&ours.jwks());
    let alice = VerifiedToken::for_test("alice@A.TEST", None, &[]);
    let refused = feeds.hear(&revocations, &another, 2000).await;
    assert_eq!(refused, Err(FeedError::Signature(Reason::UnknownKey)));
    assert_eq!(feeds.judge(&alice, 2000).await, Err(Reason::FeedStale));
    assert_eq!(feeds.hear(&revocations, &ours, 2000).await, Ok(Taken::All));
    assert_eq!(feeds.judge(&alice, 2000).await, Ok(()));
}
