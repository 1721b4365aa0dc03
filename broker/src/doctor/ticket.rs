//! Gets a ticket for the service from the KDC and accepts it: what a client's ticket meets, in one go. That shows whether the
//! KDC knows the service, with which key it makes tickets, whether the keytab opens them, and how far the clocks differ.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::fd::{IntoRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbridge_gss::{
    InitiateError, InitiateErrorKind, InitiateRequest, InitiatorCredential, MechToken, Mechanism, ServicePrincipal,
};
use kerbridge_wire::{Reason, Span};
use rustix::fs::{MemfdFlags, memfd_create};
use zeroize::Zeroizing;

use super::finding::{Finding, Remedy};
use super::keytab::extract;
use super::user;
use crate::acceptor::{Accepted, Acceptor as _, GssAcceptor, Leg, Progress, Rejection};
use crate::channel_bindings::{Channel, ChannelBindingRules};
use crate::config::{AcceptorConfig, Config, KerberosConfig, ListenerName};
use crate::negotiate::{FirstToken, NegotiateToken, TicketKey};
use crate::time::{Clock, UnixTime};

const CHECK: &str = "ticket";
const CLOCK: &str = "clock";
/// A difference of clocks that is worth saying, in seconds; a ticket's times are whole seconds.
const NOTABLE: u64 = 5;

/// Looks at one acceptor, as itself or with a user's tickets.
pub fn look(acceptor: &AcceptorConfig, ccache: Option<&Path>, config: &Config, clock: Clock) -> Vec<Finding> {
    let AcceptorConfig { principal, keytab } = acceptor;
    let before = clock.now();
    let token = match ask(principal, keytab, ccache) {
        Ok(token) => token,
        Err(NoTicket::Cache(problem)) => {
            let again = match ccache {
                Some(ccache) => login(ccache),
                None => Remedy::any(format!("kinit -k -t {} {principal}", keytab.display())),
            };
            return vec![Finding::gap(CHECK, principal.as_str(), problem).mended_by([again])];
        }
        Err(NoTicket::Kdc(error)) => return vec![refused(&error, principal, keytab, ccache)],
    };
    let token = match FirstToken::parse(&STANDARD.encode(token.as_bytes())) {
        Ok(FirstToken::Ticket(token)) => token,
        Ok(FirstToken::Opening(_)) => return vec![unreadable(principal, &"the library made a token without a ticket")],
        Err(error) => return vec![unreadable(principal, &error)],
    };
    let found = format!("the KDC gives a ticket by {}", name(token.key()));
    let accepted = match accept(acceptor, config, token, before) {
        Ok(accepted) => accepted,
        Err(rejection) => return vec![not_opened(&found, &rejection, principal, keytab)],
    };
    let good = Finding::good(CHECK, principal.as_str(), format!("{found}, and the keytab opens it"));
    // A user's ticket may be hours old: only one that was got just now tells the KDC's time.
    match ccache {
        Some(ccache) => vec![
            good,
            user::look(&accepted, config, ccache, clock.now()),
            Finding::skipped(
                CLOCK,
                "this machine",
                "the tickets of --ccache do not tell the KDC's time: leave that out to compare the clocks",
            ),
        ],
        None => {
            let skew = config.kerberos().clock_skew_seconds;
            vec![good, clocks(accepted.auth_time(), before, clock.now(), skew)]
        }
    }
}

/// What puts a user's tickets into the file of `--ccache`.
pub(super) fn login(ccache: &Path) -> Remedy {
    Remedy::any(format!("kinit -c {} USER@REALM", ccache.display()))
}

fn unreadable(principal: &ServicePrincipal, problem: &dyn fmt::Display) -> Finding {
    Finding::bad(CHECK, principal.as_str(), Reason::Internal, problem.to_string())
}

/// Why there is no ticket.
enum NoTicket {
    Cache(String),
    Kdc(InitiateError),
}

fn ask(principal: &ServicePrincipal, keytab: &Path, ccache: Option<&Path>) -> Result<MechToken, NoTicket> {
    let credential = match ccache {
        Some(ccache) => borrow(ccache)?,
        // Where there is a KDC the keys are tried at once.
        None => InitiatorCredential::from_keytab(principal.as_principal(), keytab).map_err(|error| {
            error.detail().cloned().map_or_else(
                || NoTicket::Cache(error.to_string()),
                |detail| NoTicket::Kdc(InitiateError::from(detail)),
            )
        })?,
    };
    let request = InitiateRequest {
        target: principal.clone(),
        mechanism: Mechanism::Krb5,
        mutual: false,
        bindings: None,
    };
    credential
        .initiate(&request)
        .map(|initiation| initiation.token)
        .map_err(NoTicket::Kdc)
}

/// A user's tickets, from a copy: what is asked for here is not kept in the user's own file.
fn borrow(ccache: &Path) -> Result<InitiatorCredential, NoTicket> {
    let unusable = |error: io::Error| NoTicket::Cache(format!("{}: {error}", ccache.display()));
    let tickets = fs::read(ccache).map(Zeroizing::new).map_err(unusable)?;
    let mut copy = memfd_create("ccache", MemfdFlags::CLOEXEC)
        .map(fs::File::from)
        .map_err(|error| unusable(error.into()))?;
    copy.write_all(&tickets).map_err(unusable)?;
    // libkrb5 reads it when it is asked for a ticket: it must stay open as long as this process.
    let path = format!("/proc/self/fd/{}", OwnedFd::from(copy).into_raw_fd());
    InitiatorCredential::from_ccache(path.as_ref()).map_err(|error| {
        let ended = error.detail().cloned().map(InitiateError::from);
        let ended = ended.filter(|error| error.kind() == InitiateErrorKind::TicketExpired);
        ended.map_or_else(|| NoTicket::Cache(error.to_string()), NoTicket::Kdc)
    })
}

/// Accepts the ticket as the broker does, beside it, with a replay cache of its own.
fn accept(
    acceptor: &AcceptorConfig,
    config: &Config,
    token: NegotiateToken,
    at: UnixTime,
) -> Result<Accepted, Rejection> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("kerbridge-doctor-{}-{number}", std::process::id()));
    // New and nobody else's: a name that is there already, a link of somebody's among them, is refused.
    DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .map_err(|error| Rejection::new(Reason::Internal, format!("{}: {error}", folder.display())))?;
    let outcome = accept_in(&folder, acceptor, config, token, at);
    // What cannot be removed stays in the temporary folder, and holds no secret.
    drop(fs::remove_dir_all(&folder));
    match outcome? {
        Progress::Established(accepted) => Ok(accepted),
        Progress::ContinueNeeded(_) => Err(Rejection::new(Reason::Internal, "the handshake needs another leg")),
    }
}

fn accept_in(
    folder: &Path,
    acceptor: &AcceptorConfig,
    config: &Config,
    token: NegotiateToken,
    at: UnixTime,
) -> Result<Progress, Rejection> {
    let kerberos = KerberosConfig {
        acceptors: vec![acceptor.clone()],
        ..config.kerberos().clone()
    };
    let gss = GssAcceptor::acquire(
        &kerberos,
        // The ticket is bound to no channel: it came through none.
        &Arc::new(ChannelBindingRules::off()),
        config.names(),
        folder,
        &Arc::default(),
    )
    .map_err(|refused| {
        let texts = refused.iter().map(|(_, error)| error.to_string());
        Rejection::new(Reason::Internal, texts.collect::<Vec<_>>().join("; "))
    })?;
    let channel = Channel {
        listener: ListenerName::Public,
        server_name: None,
        at,
    };
    gss.accept(Leg::Only(Arc::new(token)), &channel)
}

fn not_opened(found: &str, rejection: &Rejection, principal: &ServicePrincipal, keytab: &Path) -> Finding {
    let Rejection { reason, detail, .. } = rejection;
    if matches!(reason, Reason::ClockSkew | Reason::TicketNotYetValid) {
        return Finding::bad(
            CLOCK,
            "this machine",
            *reason,
            format!("the KDC's clock is too far from this one: {detail}"),
        )
        .mended_by([set_clock()]);
    }
    let bad = |cause: &str| {
        let found = format!("{found}, which is not accepted{cause}: {detail}");
        Finding::bad(CHECK, principal.as_str(), *reason, found)
    };
    if *reason == Reason::KvnoMismatch {
        // Nobody was on the way who could have altered it.
        bad(", and it is the keytab that has another key").mended_by(extract(principal, keytab))
    } else if *reason == Reason::EtypeUnavailable {
        bad("").mended_by(extract(principal, keytab))
    } else {
        bad("")
    }
}

fn set_clock() -> Remedy {
    Remedy::any("chronyc makestep (or: timedatectl set-ntp true), on the machine whose clock is wrong")
}

fn clocks(kdc: UnixTime, before: UnixTime, after: UnixTime, skew: u32) -> Finding {
    let (ahead, behind) = (after.until(kdc), kdc.until(before));
    let difference = ahead.max(behind);
    let found = match (ahead, behind) {
        (0, 0) => "the KDC's clock agrees with this one to the second".to_owned(),
        (0, _) => format!("the KDC's clock is {behind} s behind this one"),
        (_, _) => format!("the KDC's clock is {ahead} s ahead of this one"),
    };
    let mend = set_clock();
    if difference >= u64::from(skew) {
        Finding::bad(CLOCK, "this machine", Reason::ClockSkew, found).mended_by([mend])
    } else if difference > NOTABLE {
        Finding::warning(
            CLOCK,
            "this machine",
            format!("{found}; clients are refused from {skew} s on"),
        )
        .mended_by([mend])
    } else {
        Finding::good(CLOCK, "this machine", found)
    }
}

fn refused(error: &InitiateError, principal: &ServicePrincipal, keytab: &Path, ccache: Option<&Path>) -> Finding {
    let by_user = ccache.is_some();
    let bad = |reason, found: &str| Finding::bad(CHECK, principal.as_str(), reason, format!("{found}: {error}"));
    match error.kind() {
        InitiateErrorKind::ServiceUnknown => bad(Reason::SpnUnknown, "the KDC does not know the service").mended_by([
            Remedy::mit(format!("kadmin -q 'addprinc -randkey {principal}'")),
            Remedy::ad(format!(
                "setspn -S {}/{} ACCOUNT",
                principal.service(),
                principal.host()
            )),
            Remedy::freeipa(format!("ipa service-add {}/{}", principal.service(), principal.host())),
        ]),
        InitiateErrorKind::ClientUnknown if !by_user => Finding::warning(
            CHECK,
            principal.as_str(),
            format!(
                "the KDC does not know it, or knows it as a name of an account only, as Active Directory does: {error}"
            ),
        )
        .mended_by([Remedy::any(
            "kinit -c FILE USER@REALM as any user, and run this again with --ccache FILE: that tells the two apart",
        )]),
        // Without preauthentication it is this side that cannot open the answer.
        InitiateErrorKind::MutualAuthenticationFailed if !by_user => {
            bad(Reason::KvnoMismatch, "the KDC has another key than the keytab").mended_by(extract(principal, keytab))
        }
        InitiateErrorKind::ClientKeyRefused => {
            bad(Reason::KvnoMismatch, "the KDC has another key than the keytab").mended_by(extract(principal, keytab))
        }
        InitiateErrorKind::ClientRevoked => bad(Reason::SpnUnknown, "the account is disabled, locked or expired")
            .mended_by([
                Remedy::mit(format!("kadmin -q 'modprinc +allow_tix -expire never {principal}'")),
                Remedy::ad("Enable-ADAccount ACCOUNT; Unlock-ADAccount ACCOUNT; Clear-ADAccountExpiration ACCOUNT"),
                Remedy::freeipa(format!("ipa service-show {}/{}", principal.service(), principal.host())),
            ]),
        InitiateErrorKind::EnctypeUnsupported => bad(
            Reason::EtypeUnavailable,
            "the KDC and this broker share no encryption type",
        )
        .mended_by([
            Remedy::mit(format!(
                "kadmin -q 'getprinc {principal}', and supported_enctypes in kdc.conf"
            )),
            Remedy::ad("Set-ADUser ACCOUNT -KerberosEncryptionType AES128,AES256, then reset its password"),
            Remedy::freeipa(format!(
                "ipa-getkeytab -p {}/{} -k {}",
                principal.service(),
                principal.host(),
                keytab.display()
            )),
        ]),
        InitiateErrorKind::ClockSkew => {
            bad(Reason::ClockSkew, "the KDC's clock is too far from this one").mended_by([set_clock()])
        }
        InitiateErrorKind::KdcUnreachable => {
            bad(Reason::KdcUnreachable, "no KDC of the realm answers").mended_by([name_the_kdc(principal)])
        }
        InitiateErrorKind::TicketExpired => {
            let again = ccache.map_or_else(|| Remedy::any("kinit"), login);
            bad(Reason::TicketExpired, "the tickets of --ccache have ended").mended_by([again])
        }
        InitiateErrorKind::ClientUnknown | InitiateErrorKind::MutualAuthenticationFailed | InitiateErrorKind::Other => {
            bad(Reason::Internal, "the KDC gives no ticket")
        }
    }
}

/// What is said where the KDC owes an answer for too long.
pub(super) fn unanswered(principal: &ServicePrincipal, within: Span) -> Finding {
    let found = format!(
        "no KDC of the realm has answered within {within}: it hangs, or what is sent to it gets lost (--deadline)"
    );
    Finding::bad(CHECK, principal.as_str(), Reason::KdcUnreachable, found).mended_by([name_the_kdc(principal)])
}

fn name_the_kdc(principal: &ServicePrincipal) -> Remedy {
    Remedy::any(format!(
        "name it in krb5.conf: [realms] {} = {{ kdc = HOST }}; then: nc -z HOST 88",
        principal.realm()
    ))
}

fn name(key: TicketKey) -> String {
    let TicketKey { kvno, enctype } = key;
    match kvno {
        Some(kvno) => format!("kvno {kvno}, {enctype}"),
        None => format!("{enctype}, no kvno given"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn clocks_that_differ_are_told_apart_by_what_it_costs() {
        let at = UnixTime::from_seconds;
        let verdict = |kdc| clocks(at(kdc), at(1000), at(1001), 300).verdict;
        for (kdc, expected) in [
            (1000, Verdict::Good),
            (1006, Verdict::Good),
            (1007, Verdict::Warning),
            (994, Verdict::Warning),
            (1301, Verdict::Bad),
            (700, Verdict::Bad),
            (701, Verdict::Warning),
        ] {
            assert_eq!(verdict(kdc), expected, "{kdc}");
        }
        assert!(clocks(at(1100), at(1000), at(1001), 300).found.contains("99 s ahead"));
        assert!(clocks(at(900), at(1000), at(1001), 300).found.contains("100 s behind"));
    }
}
