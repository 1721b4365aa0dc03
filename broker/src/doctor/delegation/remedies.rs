//! Gives the commands that set a right of delegation up, for each kind of KDC.
//!
//! Those for MIT and Samba are run by the tests; those for Active Directory and FreeIPA are from their documentation.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use kerbridge_gss::{Principal, ServicePrincipal};

use crate::doctor::finding::Remedy;
use crate::doctor::shell::{kadmin, powershell, quoted, sh, word};
use crate::principal::components;

/// What a domain's tools call an account. A name of several components is a service's, which is not what they take: a word
/// stands there instead, and behind the command how to find what it stands for.
struct Account<'a> {
    /// As PowerShell takes it.
    ad: Cow<'a, str>,
    /// As a POSIX shell does.
    sh: Cow<'a, str>,
    in_ad: String,
    in_samba: String,
}

impl<'a> Account<'a> {
    /// Whoever has logged in by this name.
    fn of(principal: &'a Principal) -> Self {
        Self::known(principal).unwrap_or_else(|| Self::of_service("ACCOUNT", principal.name()))
    }

    /// An account's own name, where it can be one.
    fn known(principal: &'a Principal) -> Option<Self> {
        (components(principal) == 1).then(|| Self {
            ad: powershell(principal.name()),
            sh: sh(principal.name()),
            in_ad: String::new(),
            in_samba: String::new(),
        })
    }

    /// Whoever has this service principal name.
    fn of_service(word: &'a str, service: &str) -> Self {
        Self {
            ad: word.into(),
            sh: word.into(),
            in_ad: format!(" # {word}: whose name it is; setspn -Q {}", powershell(service)),
            in_samba: format!(
                " # {word}: whose name it is; ldbsearch -H sam.ldb {} sAMAccountName",
                sh(&format!("servicePrincipalName={service}"))
            ),
        }
    }

    fn ad(&self, command: impl fmt::Display) -> Remedy {
        Remedy::ad(format!("{command}{}", self.in_ad))
    }

    fn samba(&self, command: impl fmt::Display) -> Remedy {
        Remedy::samba(format!("{command}{}", self.in_samba))
    }
}

/// Writes the account's present keys into its keytab.
pub(super) fn keytab(account: &Principal, path: &Path) -> [Remedy; 4] {
    let (path, name) = (path.display().to_string(), sh(account.name()));
    let in_domain = Account::of(account);
    [
        kadmin(format_args!("ktadd -k {} {}", word(&path), word(account.as_str()))),
        in_domain.ad(format_args!(
            "ktpass /princ {} /mapuser {} /crypto AES256-SHA1 /ptype KRB5_NT_PRINCIPAL /pass * /out bridge.keytab",
            powershell(account.as_str()),
            in_domain.ad
        )),
        Remedy::samba(format!(
            "samba-tool domain exportkeytab {} --principal={name}",
            sh(&path)
        )),
        Remedy::freeipa(format!("ipa-getkeytab -p {name} -k {}", sh(&path))),
    ]
}

/// Opens the broker's account, which is closed.
pub(super) fn unlock_account(account: &Principal) -> Vec<Remedy> {
    let mut remedies = vec![unlock(account)];
    remedies.extend(unlock_in_domain(&Account::of(account)));
    remedies.extend(unlock_in_freeipa(account));
    remedies
}

/// Opens a user's account, which is closed.
pub(super) fn unlock_user(user: &Principal) -> Vec<Remedy> {
    let mut remedies = vec![unlock(user)];
    if let Some(account) = Account::known(user) {
        remedies.extend(unlock_in_domain(&account));
    }
    remedies.extend(unlock_in_freeipa(user));
    remedies
}

fn unlock(principal: &Principal) -> Remedy {
    kadmin(format_args!(
        "modprinc +allow_tix -expire never {}",
        word(principal.as_str())
    ))
}

fn unlock_in_domain(account: &Account<'_>) -> [Remedy; 2] {
    let Account { ad, sh, .. } = account;
    [
        account.ad(format_args!(
            "Enable-ADAccount {ad}; Unlock-ADAccount {ad}; Clear-ADAccountExpiration {ad}"
        )),
        account.samba(format_args!(
            "samba-tool user enable {sh}; samba-tool user setexpiry {sh} --noexpiry"
        )),
    ]
}

/// A service of FreeIPA's is not closed.
fn unlock_in_freeipa(principal: &Principal) -> Option<Remedy> {
    let Account { sh, .. } = Account::known(principal)?;
    Some(Remedy::freeipa(format!("ipa user-enable {sh}; ipa user-unlock {sh}")))
}

/// Shows what the KDC has of a user.
pub(super) fn look_up(user: &Principal) -> Vec<Remedy> {
    let mut remedies = vec![kadmin(format_args!("getprinc {}", word(user.as_str())))];
    if let Some(Account { ad, sh, .. }) = Account::known(user) {
        remedies.extend([
            Remedy::ad(format!("Get-ADUser {ad} -Properties UserPrincipalName")),
            Remedy::samba(format!("samba-tool user show {sh}")),
            Remedy::freeipa(format!("ipa user-show {sh} --all")),
        ]);
    }
    remedies
}

/// Gives an account a service principal name, without which it is no service. One that logs in by such a name has one.
pub(super) fn give_a_service_name(account: &Principal) -> Vec<Remedy> {
    let Some(Account { ad, sh, .. }) = Account::known(account) else {
        return Vec::new();
    };
    vec![
        Remedy::ad(format!("setspn -S kerbridge/HOST {ad}")),
        Remedy::samba(format!("samba-tool spn add kerbridge/HOST {sh}")),
    ]
}

/// Lets the account act for users who showed it no ticket.
pub(super) fn allow_protocol_transition(account: &Principal) -> Vec<Remedy> {
    let in_domain = Account::of(account);
    let Account { ad, sh, .. } = &in_domain;
    let mut remedies = vec![
        kadmin(format_args!(
            "modprinc +ok_to_auth_as_delegate {}",
            word(account.as_str())
        )),
        in_domain.ad(format_args!(
            "Set-ADAccountControl {ad} -TrustedToAuthForDelegation $true"
        )),
        in_domain.samba(format_args!("samba-tool delegation for-any-protocol {sh} on")),
    ];
    remedies.extend(of_service(account, |name| {
        format!("ipa service-mod {name} --ok-to-auth-as-delegate=true")
    }));
    remedies
}

/// For FreeIPA, where services act for users, and users do not.
fn of_service(account: &Principal, command: impl FnOnce(&str) -> String) -> Option<Remedy> {
    (components(account) > 1).then(|| Remedy::freeipa(command(&sh(account.name()))))
}

/// Takes the protection of a user away.
pub(super) fn unprotect(user: &Principal) -> Vec<Remedy> {
    let mut remedies = vec![kadmin(format_args!(
        "modprinc +allow_forwardable {}",
        word(user.as_str())
    ))];
    if let Some(Account { ad, sh, .. }) = Account::known(user) {
        remedies.extend([
            Remedy::ad(format!("Set-ADAccountControl {ad} -AccountNotDelegated $false")),
            Remedy::ad(format!("Remove-ADGroupMember 'Protected Users' -Members {ad}")),
            Remedy::samba(format!("samba-tool user sensitive {sh} off")),
        ]);
    }
    remedies
}

/// Lets the account act towards a service.
pub(super) fn allow_target(account: &Principal, target: &ServicePrincipal) -> Vec<Remedy> {
    let target_name = target.as_principal().name();
    let in_domain = Account::of(account);
    let Account { ad, sh: in_shell, .. } = &in_domain;
    let change = [
        &*format!("dn: krbPrincipalName={account},cn={},CONTAINER", account.realm()),
        "changetype: modify",
        "add: krbAllowedToDelegateTo",
        &*format!("krbAllowedToDelegateTo: {target}"),
    ]
    .map(quoted);
    let (in_powershell, target_name) = (powershell(target_name), sh(target_name));
    let mut remedies = vec![
        Remedy::mit(format!(
            "printf '%s\\n' {} | ldapmodify -Y EXTERNAL -H ldapi:/// # CONTAINER: ldap_kerberos_container_dn of the KDC's \
             kdc.conf",
            change.join(" ")
        )),
        in_domain.ad(format_args!(
            "Set-ADUser {ad} -Add @{{'msDS-AllowedToDelegateTo'='{}'}}",
            target.as_principal().name().replace('\'', "''")
        )),
        in_domain.ad(format_args!(
            "or, at the target: Set-ADComputer TARGET -PrincipalsAllowedToDelegateToAccount (Get-ADUser {ad}) \
             # TARGET: whose name it is; setspn -Q {in_powershell}"
        )),
        in_domain.samba(format_args!(
            "samba-tool delegation add-service {in_shell} {target_name}"
        )),
    ];
    remedies.extend(of_service(account, |name| {
        format!(
            "ipa servicedelegationrule-add kerbridge; ipa servicedelegationtarget-add kerbridge-targets; \
             ipa servicedelegationrule-add-target kerbridge --servicedelegationtargets=kerbridge-targets; \
             ipa servicedelegationrule-add-member kerbridge --principals={name}; \
             ipa servicedelegationtarget-add-member kerbridge-targets --principals={target_name}"
        )
    }));
    remedies
}

/// Makes a service known.
pub(super) fn create_target(target: &ServicePrincipal) -> [Remedy; 4] {
    let name = sh(target.as_principal().name());
    [
        kadmin(format_args!("addprinc -randkey {}", word(target.as_str()))),
        Remedy::ad(format!(
            "setspn -S {} ACCOUNT # ACCOUNT: what the service runs as",
            powershell(target.as_principal().name())
        )),
        Remedy::samba(format!(
            "samba-tool spn add {name} ACCOUNT # ACCOUNT: what the service runs as"
        )),
        Remedy::freeipa(format!("ipa service-add {name}")),
    ]
}

/// Gives a service keys of today.
pub(super) fn rekey(target: &ServicePrincipal) -> [Remedy; 3] {
    let name = target.as_principal().name();
    [
        Remedy::mit(format!(
            "kadmin -q {}; kadmin.local -q {}",
            quoted(&format!(
                "cpw -randkey -e aes256-cts-hmac-sha1-96:normal,aes128-cts-hmac-sha1-96:normal {}",
                word(target.as_str())
            )),
            quoted(&format!("ktadd -k KEYTAB -norandkey {}", word(target.as_str())))
        )),
        Account::of_service("ACCOUNT", name)
            .ad("Set-ADUser ACCOUNT -KerberosEncryptionType AES128,AES256, then reset its password"),
        Remedy::freeipa(format!(
            "ipa-getkeytab -p {} -k KEYTAB -e aes256-cts,aes128-cts",
            sh(name)
        )),
    ]
}

/// Leads to another account than the broker's own.
pub(super) fn name_the_service(target: &ServicePrincipal) -> Remedy {
    Remedy::any(format!(
        "let [[delegation]] and upstream name the service behind Envoy, and give {} to the account that it runs as: \
         an account that is not the broker's",
        target.as_principal().name()
    ))
}

/// Tells libkrb5 where a realm's KDC is.
pub(super) fn name_the_kdc(realm: &str) -> Remedy {
    Remedy::any(format!(
        "name it in krb5.conf: [realms] {realm} = {{ kdc = HOST }}; then: nc -z HOST 88"
    ))
}

/// Sets the clock right.
pub(super) fn set_clock() -> Remedy {
    Remedy::any("chronyc makestep (or: timedatectl set-ntp true), on the machine whose clock is wrong")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(remedies: impl IntoIterator<Item = Remedy>) -> Vec<String> {
        let line = |remedy: Remedy| format!("{}: {}", remedy.system, remedy.command);
        remedies.into_iter().map(line).collect()
    }

    /// What is pasted, without how to find what is to be filled in.
    fn pasted(command: &str) -> &str {
        command.split_once(" # ").map_or(command, |(command, _)| command)
    }

    #[test]
    fn a_services_name_is_not_what_a_domains_tools_call_an_account() {
        let account = Principal::parse("kerbridge/broker.test@A.TEST").unwrap();
        let target = ServicePrincipal::parse("HTTP/legacy.test@A.TEST").unwrap();
        let all: Vec<String> = [
            commands(keytab(&account, Path::new("bridge.keytab"))),
            commands(unlock_account(&account)),
            commands(give_a_service_name(&account)),
            commands(allow_protocol_transition(&account)),
            commands(allow_target(&account, &target)),
        ]
        .concat();
        let in_domain = all.iter().filter(|line| {
            let takes_principals = ["ktpass", "exportkeytab"].iter().any(|tool| line.contains(tool));
            (line.starts_with("ad: ") || line.starts_with("samba: ")) && !takes_principals
        });
        let in_domain: Vec<&String> = in_domain.collect();
        assert_eq!(in_domain.len(), 7, "{in_domain:#?}");
        for line in in_domain {
            assert!(
                pasted(line).contains("ACCOUNT") && !pasted(line).contains("kerbridge/"),
                "{line}"
            );
            assert!(
                line.contains("setspn -Q kerbridge/broker.test")
                    || line.contains("servicePrincipalName=kerbridge/broker.test"),
                "{line}"
            );
        }
        assert!(all.iter().any(|line| line.contains("/mapuser ACCOUNT ")), "{all:#?}");
        assert!(
            all.contains(&"freeipa: ipa service-mod kerbridge/broker.test --ok-to-auth-as-delegate=true".to_owned()),
            "{all:#?}"
        );
        assert!(!all.iter().any(|line| line.contains("ipa user-")), "{all:#?}");
    }

    #[test]
    fn an_account_is_called_by_its_name_and_is_no_service_of_freeipas() {
        let account = Principal::parse("bridge@A.TEST").unwrap();
        let target = ServicePrincipal::parse("HTTP/legacy.test@A.TEST").unwrap();
        let all = [
            commands(allow_protocol_transition(&account)),
            commands(allow_target(&account, &target)),
        ]
        .concat();
        assert!(
            all.contains(&"samba: samba-tool delegation for-any-protocol bridge on".to_owned()),
            "{all:#?}"
        );
        assert!(
            !all.iter()
                .any(|line| line.contains("ACCOUNT:") || line.starts_with("freeipa")),
            "{all:#?}"
        );
        assert!(
            all.iter()
                .any(|line| line.contains(",CONTAINER' ") && line.contains("# CONTAINER: ldap_kerberos_container_dn")),
            "{all:#?}"
        );
    }

    #[test]
    fn a_user_of_two_components_is_in_no_domain() {
        let user = Principal::parse("alice/admin@A.TEST").unwrap();
        for remedies in [unprotect(&user), unlock_user(&user), look_up(&user)] {
            let commands = commands(remedies);
            assert!(commands.len() == 1 && commands[0].starts_with("mit: "), "{commands:#?}");
        }
    }
}
