//! Passes a known token on the few headers that it takes to know it, without reading all of them.
//!
//! Reading every header costs as much as a dozen single reads. Where the listener refuses names with underscores, what must
//! go from a request is known by name, so that a token that was verified before needs no look at the rest. Whatever is not
//! plainly a pass (no token, one that is not known, one that is refused, a dry run, a cookie) is judged on the whole head.

use std::rc::Rc;

use super::{Gate, Origin, Requirements, pass};
use crate::certificate::{CertificateDigest, Confirmation};
use crate::credentials::unverified_bearer;
use crate::refusal::Asked;
use crate::request::has_token_in_query;
use crate::route::{self, Need};
use crate::step::{HeaderEdit, Step};
use crate::time::UnixTime;
use crate::verified::Verified;

use kerbridge_wire::policy::Scheme;

/// The part of a head that a known token takes.
#[derive(Clone, Copy, Debug)]
pub struct WarmHead<'a> {
    /// `:method`
    pub method: &'a [u8],
    /// `:path`, the query included.
    pub path: &'a [u8],
    /// `:authority`, the port included.
    pub authority: &'a [u8],
    /// It came over TLS.
    pub secure: bool,
    /// The client's certificate, where [`Recalled::is_bound`] says that it matters.
    pub certificate: Option<CertificateDigest>,
}

/// A token that a request shows and that was verified before. Not yet judged.
#[derive(Debug)]
pub struct Recalled {
    verified: Rc<Verified>,
    origin: Origin,
}

impl Recalled {
    /// Whether the token is its bearer's only with a certificate.
    pub fn is_bound(&self) -> bool {
        self.verified.claims().confirmation() != Confirmation::Bearer
    }
}

impl Gate {
    /// Whether it is worth trying, and the headers whose presence rules it out: a cookie that may be ours, a token in
    /// another header, the wish for an explanation.
    pub fn warm_path(&self) -> Option<&[Rc<str>]> {
        let config = self.snapshot.config()?;
        config.is_single_read_enough.then_some(config.warm_blockers.as_slice())
    }

    /// The token among these values of `authorization`, if it was verified before and its key is still one of its issuer's:
    /// otherwise the rest need not be read for [`Self::admit_warm`]. What is not plainly one token is nobody's: only whole
    /// tokens that were verified are remembered.
    pub fn recall(&mut self, now: UnixTime, authorization: &[u8]) -> Option<Recalled> {
        let origin = Origin::Shown(unverified_bearer(authorization)?.into());
        let verified = self.known(&Rc::clone(&self.snapshot), &origin, now)?.ok()?;
        Some(Recalled { verified, origin })
    }

    /// Passes a request with a known token; `None` for every other, which is then to be judged on its whole head.
    pub fn admit_warm(&mut self, now: UnixTime, head: &WarmHead<'_>, recalled: Recalled) -> Option<Step> {
        let config = Rc::clone(self.snapshot.config()?);
        if !config.is_single_read_enough || head.method == b"OPTIONS" || has_token_in_query(head.path) {
            return None;
        }
        let route = route::find_for(&config.routes, head.authority, head.path, head.method).ok()??;
        let Need::Proof(rule) = &route.need else { return None };
        // A ticket is asked for with more than this head tells, and the broker is called anyway.
        if route.dry_run
            || rule.upstream.is_some()
            || !rule.accepts(Scheme::Bearer)
            || !(head.secure || rule.allow_insecure)
        {
            return None;
        }
        let Recalled { verified, origin } = recalled;
        let requirements = Requirements {
            snapshot: Rc::clone(&self.snapshot),
            rule: Rc::clone(rule),
            config: Rc::clone(&config),
        };
        let asked = Asked::warm(Rc::clone(&config), Rc::clone(route), head);
        let Step::Continue(mut edits, admitted) = pass(asked, &requirements, now, &verified, origin) else {
            return None;
        };
        for name in config.reserved_headers() {
            let is_edited = edits.iter().any(|edit| match edit {
                HeaderEdit::Set(edited, _) | HeaderEdit::Add(edited, _) | HeaderEdit::Remove(edited) => edited == name,
            });
            if !is_edited {
                edits.push(HeaderEdit::Remove(Rc::clone(name)));
            }
        }
        Some(Step::Continue(edits, admitted))
    }
}
