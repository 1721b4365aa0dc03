//! The world around the gate: keys are published and fetched, the feed comes.

use super::*;

impl World {
    pub(super) fn fetch_keys(&mut self, issuer: usize) {
        let kids = self.published[issuer].clone();
        let jwks: Vec<String> = kids.iter().map(|kid| self.keys[issuer][*kid].jwk()).collect();
        let set = format!(r#"{{"keys":[{}]}}"#, jwks.join(","));
        let next = self
            .gate
            .borrow()
            .snapshot()
            .with_keys(issuer, set.as_bytes(), at(self.now));
        self.replace(next.unwrap());
        self.known.keys[issuer] = Some(Keys {
            kids,
            fetched: self.now,
        });
    }

    /// A page that says all that was revoked until it was signed; the gate takes it where it has the key that signed it.
    pub(super) fn feed_arrives(&mut self, age: u64) {
        let signed = self.now.saturating_sub(age).max(NOW);
        let all: Vec<Revocation> = self
            .revoked
            .iter()
            .filter(|(when, _)| *when <= signed)
            .map(|(_, revocation)| revocation.clone())
            .collect();
        // As the filter asks: for what came after the version that it has.
        let base = self.feed.position().map(|position| position.version);
        let after = usize::try_from(base.unwrap_or(1) - 1).unwrap();
        let entries = all.get(after..).unwrap_or_default().iter().map(entry);
        let body: Vec<u8> = entries.flat_map(Entry::to_bytes).collect();
        let hash = body_hash(&body);
        let claims = PageClaims {
            format: FORMAT,
            iss: ISSUERS[BROKER].into(),
            iat: signed,
            epoch: Hex([7; 16]),
            version: u64::try_from(all.len()).unwrap() + 1,
            base,
            page: 0,
            pages: 1,
            entries: (body.len() / ENTRY_BYTES).try_into().unwrap(),
            sha256: hash,
            sha256_of_pages: Some(hash_of_pages(&[hash])),
        };
        let signer = self.published[BROKER][0];
        let key = &self.keys[BROKER][signer];
        let header = format!(r#"{{"alg":"ES256","typ":"{TYPE}","kid":"{}"}}"#, key.kid);
        let page = join_page(&key.sign(&header, &serde_json::to_string(&claims).unwrap()), &body);
        self.take_page(page);
        let is_readable = self.known.keys[BROKER]
            .as_ref()
            .is_some_and(|keys| self.now <= keys.fetched + STALENESS && keys.kids.contains(&signer));
        let is_newer = self
            .known
            .feed
            .as_ref()
            .is_none_or(|feed| all.len() >= feed.revocations.len());
        if is_readable && is_newer {
            let as_of = self.known.feed.as_ref().map_or(signed, |feed| feed.as_of.max(signed));
            self.known.feed = Some(Feed {
                revocations: all,
                as_of,
            });
        }
    }

    fn take_page(&mut self, page: Vec<u8>) {
        let snapshot = Rc::clone(self.gate.borrow().snapshot());
        let Some(keys) = snapshot.issuer_keys(BROKER, at(self.now)) else {
            return;
        };
        let Ok(page) = UnverifiedPage::read(page, keys) else {
            return;
        };
        let is_good = natively(page.signature());
        let Ok(page) = page.resume(is_good) else { return };
        match self.feed.accept(page, Origin::Fetched, at(self.now)) {
            Ok(Accepted::Reading) => while self.feed.step(at(self.now)).unwrap() == Progress::Working {},
            Ok(Accepted::Refreshed | Accepted::Known) | Err(_) => {}
        }
        if let Some(known) = self.feed.known() {
            self.replace(snapshot.with_revocations(BROKER, known));
        }
    }
}

fn entry(revocation: &Revocation) -> Entry {
    let issuer = ISSUERS[BROKER];
    let key = match &revocation.named {
        Named::Token(id) => RevocationKey::token(issuer, id),
        Named::Session(session) => RevocationKey::session(issuer, session),
        Named::Subject(subject) => RevocationKey::subject(issuer, subject),
    };
    Entry::new(key, NEEDED_UNTIL, revocation.issued_until)
}

/// The check that Envoy does.
pub(super) fn natively(input: &SignatureInput) -> bool {
    let check = input.native().unwrap();
    // The key's point is the end of its SubjectPublicKeyInfo.
    let point = &check.key[check.key.len() - 65..];
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
        .verify(check.text, &check.signature)
        .is_ok()
}
