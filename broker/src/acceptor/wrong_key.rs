//! Says which key a ticket was made with and which keys the keytab has, where the two do not fit.

use kerbridge_gss::{AcceptorCredential, Enctype, Keytab, KeytabError, Principal};

use crate::negotiate::TicketKey;

/// Most keys that are listed; a keytab that follows a KDC has a few old ones.
const MOST_KEYS: usize = 8;

/// The sentence for the log. The keytab is read anew, as the library does for every ticket.
pub(super) fn explain(ticket: TicketKey, credential: &AcceptorCredential) -> String {
    let keytab = Keytab::open(credential.keytab());
    describe(ticket, credential.service().as_principal(), keytab)
}

fn describe(ticket: TicketKey, service: &Principal, keytab: Result<Keytab, KeytabError>) -> String {
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
    text.push_str(match (fits, enctype.is_weak()) {
        (true, true) => ", which is taken only where kerberos.weak_enctypes names it; the keytab has",
        (true, false) => ", but not with the key that the keytab has under that number; it has",
        (false, _) => ", the keytab has",
    });
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

    fn said(kvno: impl Into<Option<u32>>, enctype: i32, keys: &[(u8, u8)]) -> String {
        let ticket = TicketKey {
            kvno: kvno.into(),
            enctype: Enctype::from(enctype),
        };
        describe(ticket, &Principal::parse("HTTP/api@A.TEST").unwrap(), keytab(keys))
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
            "the ticket is made with kvno 2 aes256-cts-hmac-sha1-96, but not with the key that the keytab has under that \
             number; it has kvno 2 aes256-cts-hmac-sha1-96"
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
}
