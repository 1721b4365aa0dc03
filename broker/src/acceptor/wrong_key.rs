//! Says which key a ticket was made with and which keys the keytab has, where the two do not fit.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use kerbridge_gss::{Enctype, Keytab, KeytabError, Principal, ServicePrincipal};

use crate::negotiate::TicketKey;
use crate::time::UnixTime;

/// Most keys that are listed; a keytab that follows a KDC has a few old ones.
const MOST_KEYS: usize = 8;
/// Most keys that are remembered; a broker has a few services with a few keys each.
const MOST_OPENED: usize = 256;

/// When each key last opened a ticket. A ticket that it does not open was then more likely altered than made with another.
#[derive(Debug, Default)]
pub struct OpenedKeys(Mutex<HashMap<(ServicePrincipal, TicketKey), UnixTime>>);

impl OpenedKeys {
    /// This key of this service has just opened a ticket, so that no stranger chose it.
    pub(super) fn note(&self, service: &ServicePrincipal, key: TicketKey, now: UnixTime) {
        let mut opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = (service.clone(), key);
        if opened.len() < MOST_OPENED || opened.contains_key(&known) {
            opened.insert(known, now);
        }
    }

    /// When it last opened one, in this process.
    pub(super) fn last(&self, service: &ServicePrincipal, key: TicketKey) -> Option<UnixTime> {
        let opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        opened.get(&(service.clone(), key)).copied()
    }
}

/// The sentence for the log and the doctor. The keytab is read anew, as the library does for every ticket. `opened_before` is
/// how many seconds ago its key of the ticket's version and type opened another ticket.
pub(crate) fn explain(ticket: TicketKey, service: &Principal, keytab: &Path, opened_before: Option<u64>) -> String {
    describe(ticket, service, Keytab::open(keytab), opened_before)
}

fn describe(
    ticket: TicketKey,
    service: &Principal,
    keytab: Result<Keytab, KeytabError>,
    opened_before: Option<u64>,
) -> String {
    let TicketKey { kvno, enctype } = ticket;
    let mut text = format!("the ticket is made with {}", key(kvno, enctype));
    let keytab = match keytab {
        Ok(keytab) => keytab,
        Err(error) => {
            text.push_str(&format!(", {error}"));
            return text;
        }
    };
    let held = keytab.entries().iter().filter(|entry| entry.principal() == service);
    let fits = held
        .clone()
        .any(|entry| entry.enctype() == enctype && kvno.is_none_or(|kvno| kvno == entry.kvno()));
    match (fits, enctype.is_weak(), opened_before) {
        (true, true, _) => {
            text.push_str(", which is taken only where kerberos.weak_enctypes names it; the keytab has");
        }
        (true, false, None) => {
            text.push_str(
                ", and the keytab's key of that number does not open it: it is another key, or the ticket was altered; the \
                 keytab has",
            );
        }
        (true, false, Some(seconds)) => text.push_str(&format!(
            ", and the keytab's key of that number does not open it, but opened another {seconds} s ago: the ticket was \
             altered, or the KDC has a new key under that number since; the keytab has"
        )),
        (false, _, _) => text.push_str(", the keytab has"),
    }
    let count = held.clone().count();
    if count == 0 {
        text.push_str(" no key of the service");
    }
    for (index, entry) in held.take(MOST_KEYS).enumerate() {
        let comma = if index == 0 { "" } else { ";" };
        text.push_str(&format!("{comma} {}", key(Some(entry.kvno()), entry.enctype())));
    }
    if count > MOST_KEYS {
        text.push_str(&format!("; {} more", count.saturating_sub(MOST_KEYS)));
    }
    text
}

fn key(kvno: Option<u32>, enctype: Enctype) -> String {
    match kvno {
        Some(kvno) => format!("kvno {kvno} {enctype}"),
        None => format!("no kvno, {enctype}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A keytab (format 0x0502) with these keys of `HTTP/api@A.TEST`.
    fn keytab(keys: &[(u8, u8)]) -> Result<Keytab, KeytabError> {
        let mut bytes = vec![5, 2];
        for &(kvno, enctype) in keys {
            let entry = [
                &b"\0\x02\0\x06A.TEST\0\x04HTTP\0\x03api\0\0\0\x01\0\0\0\0"[..],
                &[kvno, 0, enctype, 0, 1, 0],
            ]
            .concat();
            bytes.extend(u32::try_from(entry.len()).unwrap().to_be_bytes());
            bytes.extend(entry);
        }
        Keytab::parse(&bytes)
    }

    fn named(kvno: impl Into<Option<u32>>, enctype: i32) -> TicketKey {
        TicketKey {
            kvno: kvno.into(),
            enctype: Enctype::from(enctype),
        }
    }

    fn said(kvno: impl Into<Option<u32>>, enctype: i32, keys: &[(u8, u8)]) -> String {
        said_after(None, named(kvno, enctype), keys)
    }

    fn said_after(opened_before: Option<u64>, ticket: TicketKey, keys: &[(u8, u8)]) -> String {
        let service = Principal::parse("HTTP/api@A.TEST").unwrap();
        describe(ticket, &service, keytab(keys), opened_before)
    }

    #[test]
    fn the_key_of_the_ticket_and_those_of_the_keytab_are_named() {
        assert_eq!(
            said(3, 18, &[(1, 18), (2, 18), (2, 17)]),
            "the ticket is made with kvno 3 aes256-cts-hmac-sha1-96, the keytab has kvno 1 aes256-cts-hmac-sha1-96; kvno 2 \
             aes256-cts-hmac-sha1-96; kvno 2 aes128-cts-hmac-sha1-96"
        );
        assert_eq!(
            said(2, 18, &[(2, 18)]),
            "the ticket is made with kvno 2 aes256-cts-hmac-sha1-96, and the keytab's key of that number does not open it: it \
             is another key, or the ticket was altered; the keytab has kvno 2 aes256-cts-hmac-sha1-96"
        );
        assert_eq!(
            said_after(Some(7), named(2, 18), &[(2, 18)]),
            "the ticket is made with kvno 2 aes256-cts-hmac-sha1-96, and the keytab's key of that number does not open it, \
             but opened another 7 s ago: the ticket was altered, or the KDC has a new key under that number since; the \
             keytab has kvno 2 aes256-cts-hmac-sha1-96"
        );
        assert_eq!(
            said(2, 23, &[(2, 23)]),
            "the ticket is made with kvno 2 arcfour-hmac, which is taken only where kerberos.weak_enctypes names it; the \
             keytab has kvno 2 arcfour-hmac"
        );
        assert_eq!(
            said(None, 20, &[(2, 17)]),
            "the ticket is made with no kvno, aes256-cts-hmac-sha384-192, the keytab has kvno 2 aes128-cts-hmac-sha1-96"
        );
        assert_eq!(
            said(2, 99, &[]),
            "the ticket is made with kvno 2 enctype-99, the keytab holds no key"
        );
        let many = said(99, 18, &(1..=10).map(|kvno| (kvno, 18)).collect::<Vec<_>>());
        assert!(many.ends_with("; kvno 8 aes256-cts-hmac-sha1-96; 2 more"), "{many}");
    }

    #[test]
    fn a_key_that_has_opened_a_ticket_is_remembered_and_no_more_than_so_many() {
        let opened = OpenedKeys::default();
        let service = |name: &str| ServicePrincipal::parse(name).unwrap();
        let (api, other) = (service("HTTP/api@A.TEST"), service("HTTP/other@A.TEST"));
        opened.note(&api, named(2, 18), UnixTime::from_seconds(100));
        opened.note(&api, named(2, 18), UnixTime::from_seconds(200));
        assert_eq!(opened.last(&api, named(2, 18)), Some(UnixTime::from_seconds(200)));
        for (service, key) in [(&other, named(2, 18)), (&api, named(3, 18)), (&api, named(2, 17))] {
            assert_eq!(opened.last(service, key), None);
        }
        for kvno in 0..1000 {
            opened.note(&other, named(kvno, 18), UnixTime::from_seconds(300));
        }
        opened.note(&api, named(2, 18), UnixTime::from_seconds(400));
        assert_eq!(opened.last(&api, named(2, 18)), Some(UnixTime::from_seconds(400)));
        assert_eq!(opened.0.lock().unwrap().len(), MOST_OPENED);
    }
}
