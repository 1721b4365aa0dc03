//! Answers from what is kept, or asks the KDC, once for all who wait for the same.

use std::hash::Hash;
use std::sync::Arc;

use kerbridge_wire::Reason;
use tokio::time::Instant;

use super::asking::TooMany;
use super::flights::{Flights, Look, NoAnswer, Question, Settled};
use super::kdc::{Failed, Kdc, NoTicket};
use super::{Delegation, Inner};
use crate::metrics::Found;
use crate::time::UnixTime;
use crate::work_pool::NotDone;

/// What is wanted of a table.
pub(super) struct Request<K, V, G> {
    pub(super) table: fn(&Inner) -> &Flights<K, V, NoTicket>,
    pub(super) key: K,
    pub(super) good: G,
    pub(super) wanted: UnixTime,
    /// The user's.
    pub(super) realm: String,
    pub(super) deadline: Instant,
}

impl Delegation {
    /// What is known, or what the KDC says when it is asked, once for all who wait.
    pub(super) async fn answer<K, V, G>(
        &self,
        request: Request<K, V, G>,
        ask: impl FnOnce(&mut dyn Kdc) -> Result<V, Failed> + Send + 'static,
    ) -> Result<(Arc<V>, Found), NoTicket>
    where
        K: Clone + Eq + Hash + Send + Sync + 'static,
        V: Send + Sync + 'static,
        G: Fn(&V) -> bool,
    {
        let Request {
            table,
            key,
            good,
            wanted,
            realm,
            deadline,
        } = request;
        let (metrics, asking) = (&self.0.metrics, &self.0.asking);
        let mut ask = Some(ask);
        loop {
            let (waiting, found) = match table(&self.0).look(&key, &good, wanted, Instant::now()) {
                Look::Known(known) => {
                    metrics.found(Found::Kept);
                    return Ok((known, Found::Kept));
                }
                Look::Refused(why) => {
                    metrics.found(Found::Refused);
                    return Err(why);
                }
                Look::Full => {
                    return Err(NoTicket::new(
                        Reason::BrokerOverloaded,
                        "too many tickets are being asked for",
                    ));
                }
                Look::Join(_) if asking.is_overdue(&realm) => return Err(overdue()),
                Look::Join(waiting) => (waiting, Found::Joined),
                Look::Ask(question, waiting) => {
                    // Whoever has asked waits for the answer, so that nobody abandons the question.
                    let ask = ask.take().ok_or_else(abandoned)?;
                    if asking.may_ask(&realm).is_err() {
                        table(&self.0).settle(question, Settled::Failed(overdue()), wanted, Instant::now());
                        return Err(overdue());
                    }
                    self.ask(table, question, wanted, realm.clone(), ask);
                    (waiting, Found::Asked)
                }
            };
            match waiting.answer(deadline).await {
                Ok(answer) => {
                    metrics.found(found);
                    return answer.map(|known| (known, found));
                }
                // Whoever had asked before was gone before its turn came: this one asks.
                Err(NoAnswer::Abandoned) if ask.is_some() && Instant::now() < deadline => {}
                Err(no_answer) => {
                    metrics.found(found);
                    return Err(match no_answer {
                        NoAnswer::Late { begun: true } => overdue(),
                        NoAnswer::Late { begun: false } if asking.is_overdue(&realm) => overdue(),
                        NoAnswer::Late { begun: false } => {
                            NoTicket::new(Reason::BrokerOverloaded, "no thread was free before the deadline")
                        }
                        NoAnswer::Abandoned => abandoned(),
                    });
                }
            }
        }
    }

    /// Asks in the background: whoever asked first may not wait as long as the others.
    fn ask<K, V>(
        &self,
        table: fn(&Inner) -> &Flights<K, V, NoTicket>,
        question: Question<K, V, NoTicket>,
        wanted: UnixTime,
        realm: String,
        ask: impl FnOnce(&mut dyn Kdc) -> Result<V, Failed> + Send + 'static,
    ) where
        K: Clone + Eq + Hash + Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            let place = match inner.asking.place(&realm).await {
                Ok(place) => place,
                Err(TooMany) => {
                    let full = NoTicket::from(NotDone::Full);
                    table(&inner).settle(question, Settled::Failed(full), wanted, Instant::now());
                    return;
                }
            };
            let question = Arc::new(question);
            let asked = Arc::clone(&question);
            let outcome = inner.kdc.run(move |kdc| {
                if !asked.is_wanted() {
                    return None;
                }
                asked.begin();
                let under_way = place.begin();
                let answer = ask(kdc.as_mut());
                match &answer {
                    Ok(_) | Err(Failed::Answered(_)) => under_way.answered(),
                    Err(Failed::Unanswered(_)) => drop(under_way),
                }
                Some(answer.map_err(Failed::into_why))
            });
            let settled = match outcome.await {
                Ok(Some(Ok(value))) => Settled::Known(value),
                Ok(Some(Err(why))) => Settled::Refused(why),
                Ok(None) => Settled::Abandoned,
                Err(not_done) => Settled::Failed(not_done.into()),
            };
            if let Some(question) = Arc::into_inner(question) {
                table(&inner).settle(question, settled, wanted, Instant::now());
            }
        });
    }
}

fn overdue() -> NoTicket {
    NoTicket::new(Reason::KdcUnreachable, "the KDC does not answer in time")
}

/// For whoever comes at the very end of the process, when nobody asks any more.
fn abandoned() -> NoTicket {
    NoTicket::new(Reason::BrokerOverloaded, "nobody was left to ask the KDC")
}

impl From<NotDone> for NoTicket {
    fn from(not_done: NotDone) -> Self {
        let reason = match not_done {
            NotDone::Full => Reason::BrokerOverloaded,
            NotDone::Panicked | NotDone::Ended => Reason::Internal,
        };
        Self::new(reason, not_done.to_string())
    }
}
