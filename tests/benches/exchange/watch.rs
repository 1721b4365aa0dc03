//! Lets brokers take many tickets, and looks at what they hold.

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::exchange::{Mark, Watched};
use kerbridge_tests::bench::load::{Place, send_each};
use kerbridge_tests::bench::processor::resident_kib;
use kerbridge_tests::bench::program::say;
use kerbridge_tests::bench::settings::Settings;

use crate::realm::Realm;

/// Between two looks.
const STEP: u32 = 20_000;

/// A broker with its replay store, and one without.
pub(crate) fn run(settings: &Settings, realm: &Realm) -> Result<Vec<Watched>, HarnessError> {
    if !settings.wants("memory") {
        return Ok(Vec::new());
    }
    [true, false]
        .iter()
        .map(|store| watch(settings, realm, *store))
        .collect()
}

fn watch(settings: &Settings, realm: &Realm, store: bool) -> Result<Watched, HarnessError> {
    let name = if store { "memory" } else { "memory-without-store" };
    let running = realm.broker(name, store, false)?;
    let place = Place::Unix(running.broker.socket());
    let connections = settings.connections as usize;
    let mut marks = Vec::new();
    let mut next = realm.tickets(STEP)?;
    let steps = settings.watched / STEP;
    for step in 1..=steps {
        let requests = next.exchanges();
        // The next ones are made meanwhile.
        let (sent, made) = std::thread::scope(|scope| {
            let sending = scope.spawn(|| send_each(&place, &requests, connections));
            let made = if step < steps { Some(realm.tickets(STEP)) } else { None };
            (sending.join(), made)
        });
        sent.map_err(|_panicked| HarnessError::UnexpectedAnswer {
            what: "a thread that sends".to_owned(),
            answer: "it panicked".to_owned(),
        })??;
        let mark = Mark {
            exchanges: u64::from(STEP).saturating_mul(u64::from(step)),
            resident_kib: resident_kib(running.pid()?)?,
        };
        say(&format!(
            "{name}: {} exchanges, {} KiB",
            mark.exchanges, mark.resident_kib
        ));
        marks.push(mark);
        if let Some(made) = made {
            next = made?;
        }
    }
    Ok(Watched { store, marks })
}
