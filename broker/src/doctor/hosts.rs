//! Compares the hosts of the policy with the names that tickets are accepted for, and with what DNS makes of them.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use kerbridge_wire::Reason;
use kerbridge_wire::policy::{Policy, Scheme};

use super::finding::{Finding, Remedy};
use crate::config::AcceptorConfig;

const CHECK: &str = "host";
/// How long a name may take to be looked up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Hosts that are looked up; a policy may have thousands.
const MOST_HOSTS: usize = 100;
/// The service that browsers and curl ask tickets for (RFC 4559 §4.1).
const SERVICE: &str = "HTTP";

/// What looks names up.
pub trait Resolver {
    /// The name that an alias stands for, or the name itself; `None` where there is no such name, or nobody who knows.
    fn canonical(&self, host: &str) -> Option<String>;
}

/// The machine's own resolver, as clients of it use it.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Resolver for System {
    fn canonical(&self, host: &str) -> Option<String> {
        let mut child = Command::new("getent")
            .args(["ahosts", "--", host])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let stdout = child.stdout.take()?;
        let (done, text) = channel();
        let reader = thread::spawn(move || {
            let mut text = String::new();
            // What is no text names nobody; who waits no longer does not hear it.
            drop(stdout.take(16 * 1024).read_to_string(&mut text));
            drop(done.send(text));
        });
        let text = text.recv_timeout(PATIENCE).ok();
        // It has ended, or is to end; either way its output is at its end then.
        drop(child.kill());
        drop(child.wait());
        drop(reader.join());
        canonical_in(&text?)
    }
}

/// The name in what `getent ahosts` prints: the third word of the first line that has one.
fn canonical_in(text: &str) -> Option<String> {
    text.lines()
        .find_map(|line| line.split_ascii_whitespace().nth(2))
        .map(|name| name.trim_end_matches('.').to_ascii_lowercase())
}

/// Looks at every host whose routes take tickets.
pub fn look(acceptors: &[AcceptorConfig], policy: &Policy, resolver: &impl Resolver) -> Vec<Finding> {
    let hosts: BTreeSet<String> = policy
        .route
        .iter()
        .filter(|route| route.accept.contains(&Scheme::Negotiate))
        .filter_map(|route| route.host.as_deref())
        .map(str::to_ascii_lowercase)
        .collect();
    let mut findings: Vec<Finding> = hosts
        .iter()
        .take(MOST_HOSTS)
        .map(|host| judge(host, acceptors, resolver))
        .collect();
    if hosts.len() > MOST_HOSTS {
        findings.push(Finding::skipped(
            CHECK,
            "policy",
            format!(
                "{} more hosts are not looked at",
                hosts.len().saturating_sub(MOST_HOSTS)
            ),
        ));
    }
    findings
}

fn judge(host: &str, acceptors: &[AcceptorConfig], resolver: &impl Resolver) -> Finding {
    let mut names = acceptors
        .iter()
        .map(|acceptor| &acceptor.principal)
        .filter(|principal| principal.service() == SERVICE)
        .map(|principal| principal.host());
    if let Some(suffix) = host.strip_prefix('*') {
        return if names.any(|name| name.ends_with(suffix)) {
            Finding::good(CHECK, host, "tickets are accepted for a host below it")
        } else {
            unknown(host, "tickets are accepted for no host below it")
        };
    }
    if !names.clone().any(|name| name == host) {
        return unknown(host, &format!("no acceptor is {SERVICE}/{host}"));
    }
    match resolver.canonical(host) {
        None => Finding::warning(CHECK, host, "this machine finds no address of it; clients must").mended_by([Remedy::any(
            format!("getent ahosts {host}, here and on a client: a record with Envoy's address for {host} in DNS, or in /etc/hosts"),
        )]),
        Some(canonical) if canonical == host || names.any(|name| name == canonical) => {
            Finding::good(CHECK, host, format!("tickets are accepted for {SERVICE}/{host}"))
        }
        Some(canonical) => Finding::warning(
            CHECK,
            host,
            format!(
                "DNS calls it {canonical}: clients that follow aliases ask for a ticket to {SERVICE}/{canonical}, which is \
                 refused as spn_unknown"
            ),
        )
        .mended_by([
            Remedy::any("on the clients, in krb5.conf: dns_canonicalize_hostname = false and rdns = false"),
            Remedy::mit(format!("kadmin -q 'addprinc -randkey {SERVICE}/{canonical}', ktadd, and another [[kerberos.acceptor]]")),
            Remedy::ad(format!("setspn -S {SERVICE}/{canonical} ACCOUNT, and another [[kerberos.acceptor]]")),
            Remedy::freeipa(format!("ipa service-add {SERVICE}/{canonical}, and another [[kerberos.acceptor]]")),
        ]),
    }
}

fn unknown(host: &str, found: &str) -> Finding {
    let name = host
        .strip_prefix("*.")
        .map_or_else(|| host.to_owned(), |domain| format!("HOST.{domain}"));
    Finding::bad(CHECK, host, Reason::SpnUnknown, format!("a route of the policy takes tickets there, and {found}")).mended_by([
        Remedy::mit(format!(
            "kadmin -q 'addprinc -randkey {SERVICE}/{name}', kadmin -q 'ktadd -k KEYTAB {SERVICE}/{name}', and a [[kerberos.acceptor]]"
        )),
        Remedy::ad(format!("setspn -S {SERVICE}/{name} ACCOUNT (setspn -X lists names that two accounts have), and a [[kerberos.acceptor]]")),
        Remedy::freeipa(format!("ipa service-add {SERVICE}/{name}, ipa-getkeytab -p {SERVICE}/{name} -k KEYTAB, and a [[kerberos.acceptor]]")),
    ])
}

#[cfg(test)]
mod tests {
    use kerbridge_gss::ServicePrincipal;

    use super::super::finding::Verdict;
    use super::*;

    struct Told(&'static [(&'static str, &'static str)]);

    impl Resolver for Told {
        fn canonical(&self, host: &str) -> Option<String> {
            self.0
                .iter()
                .find(|(name, _)| *name == host)
                .map(|(_, canonical)| (*canonical).to_owned())
        }
    }

    fn judged(host: &str, principals: &[&str], dns: &'static [(&'static str, &'static str)]) -> Finding {
        let acceptors: Vec<AcceptorConfig> = principals
            .iter()
            .map(|principal| AcceptorConfig {
                principal: ServicePrincipal::parse(principal).unwrap(),
                keytab: "k".into(),
            })
            .collect();
        judge(host, &acceptors, &Told(dns))
    }

    #[test]
    fn a_host_without_a_name_in_the_keytab_is_spn_unknown() {
        let finding = judged(
            "api.r.test",
            &["HTTP/other.r.test@R.TEST", "ldap/api.r.test@R.TEST"],
            &[],
        );
        assert_eq!(
            (finding.verdict, finding.reason),
            (Verdict::Bad, Some(Reason::SpnUnknown))
        );
        assert_eq!(finding.remedies.len(), 3);
        assert_eq!(
            judged("*.r.test", &["HTTP/a.r.test@R.TEST"], &[]).verdict,
            Verdict::Good
        );
        assert_eq!(judged("*.r.test", &["HTTP/xr.test@R.TEST"], &[]).verdict, Verdict::Bad);
    }

    #[test]
    fn an_alias_is_a_trap_for_clients_that_follow_it() {
        let own = ["HTTP/api.r.test@R.TEST"];
        let dns: &[_] = &[("api.r.test", "lb1.r.test")];
        let finding = judged("api.r.test", &own, dns);
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(finding.found.contains("HTTP/lb1.r.test"), "{}", finding.found);
        let both = ["HTTP/api.r.test@R.TEST", "HTTP/lb1.r.test@R.TEST"];
        assert_eq!(judged("api.r.test", &both, dns).verdict, Verdict::Good);
        assert_eq!(
            judged("api.r.test", &own, &[("api.r.test", "api.r.test")]).verdict,
            Verdict::Good
        );
        let unheard = judged("api.r.test", &own, &[]);
        assert_eq!(unheard.verdict, Verdict::Warning);
        assert!(
            unheard.remedies[0].command.starts_with("getent ahosts api.r.test"),
            "{unheard:?}"
        );
    }

    #[test]
    fn the_canonical_name_is_read_as_getent_prints_it() {
        let text = "127.0.0.1       STREAM Localhost.\n127.0.0.1       DGRAM\n";
        assert_eq!(canonical_in(text).as_deref(), Some("localhost"));
        assert_eq!(canonical_in(""), None);
        assert_eq!(System.canonical("localhost").as_deref(), Some("localhost"));
        assert_eq!(System.canonical("no-such-name.invalid"), None);
    }
}
