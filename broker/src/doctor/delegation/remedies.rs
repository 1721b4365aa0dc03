//! Gives the commands that set a right of delegation up, for each kind of KDC.
//!
//! Those for MIT and Samba are run by the tests; those for Active Directory and FreeIPA are from their documentation.

use std::path::Path;

use kerbridge_gss::{Principal, ServicePrincipal};

use crate::doctor::finding::Remedy;

/// The name without the realm: what Active Directory and FreeIPA call an account.
fn name(principal: &Principal) -> &str {
    principal.name()
}

/// Writes the account's present keys into its keytab.
pub(super) fn keytab(account: &Principal, path: &Path) -> [Remedy; 4] {
    let (path, name) = (path.display(), name(account));
    [
        Remedy::mit(format!("kadmin -q 'ktadd -k {path} {account}'")),
        Remedy::ad(format!(
            "ktpass /princ {account} /mapuser {name} /crypto AES256-SHA1 /ptype KRB5_NT_PRINCIPAL /pass * /out bridge.keytab"
        )),
        Remedy::samba(format!("samba-tool domain exportkeytab {path} --principal={name}")),
        Remedy::freeipa(format!("ipa-getkeytab -p {name} -k {path}")),
    ]
}

/// Opens an account that is closed.
pub(super) fn unlock(account: &Principal) -> [Remedy; 4] {
    let name = name(account);
    [
        Remedy::mit(format!("kadmin -q 'modprinc +allow_tix -expire never {account}'")),
        Remedy::ad(format!(
            "Enable-ADAccount {name}; Unlock-ADAccount {name}; Clear-ADAccountExpiration {name}"
        )),
        Remedy::samba(format!(
            "samba-tool user enable {name}; samba-tool user setexpiry {name} --noexpiry"
        )),
        Remedy::freeipa(format!("ipa user-enable {name}; ipa user-unlock {name}")),
    ]
}

/// Shows what the KDC has of a user.
pub(super) fn look_up(user: &Principal) -> [Remedy; 4] {
    let name = name(user);
    [
        Remedy::mit(format!("kadmin -q 'getprinc {user}'")),
        Remedy::ad(format!("Get-ADUser {name} -Properties UserPrincipalName")),
        Remedy::samba(format!("samba-tool user show {name}")),
        Remedy::freeipa(format!("ipa user-show {name} --all")),
    ]
}

/// Gives an account a service principal name, without which it is no service.
pub(super) fn give_a_service_name(account: &Principal) -> [Remedy; 2] {
    let name = name(account);
    [
        Remedy::ad(format!("setspn -S kerbridge/HOST {name}")),
        Remedy::samba(format!("samba-tool spn add kerbridge/HOST {name}")),
    ]
}

/// Lets the account act for users who showed it no ticket.
pub(super) fn allow_protocol_transition(account: &Principal) -> [Remedy; 4] {
    let name = name(account);
    [
        Remedy::mit(format!("kadmin -q 'modprinc +ok_to_auth_as_delegate {account}'")),
        Remedy::ad(format!("Set-ADAccountControl {name} -TrustedToAuthForDelegation $true")),
        Remedy::samba(format!("samba-tool delegation for-any-protocol {name} on")),
        Remedy::freeipa(format!("ipa service-mod {name} --ok-to-auth-as-delegate=true")),
    ]
}

/// Takes the protection of a user away.
pub(super) fn unprotect(user: &Principal) -> [Remedy; 4] {
    let name = name(user);
    [
        Remedy::mit(format!("kadmin -q 'modprinc +allow_forwardable {user}'")),
        Remedy::ad(format!("Set-ADAccountControl {name} -AccountNotDelegated $false")),
        Remedy::ad(format!("Remove-ADGroupMember 'Protected Users' -Members {name}")),
        Remedy::samba(format!("samba-tool user sensitive {name} off")),
    ]
}

/// Lets the account act towards a service.
pub(super) fn allow_target(account: &Principal, target: &ServicePrincipal) -> [Remedy; 5] {
    let (account_name, target_name) = (name(account), name(target.as_principal()));
    let realm = account.realm();
    [
        Remedy::mit(format!(
            "printf 'dn: krbPrincipalName={account},cn={realm},CONTAINER\\nchangetype: modify\\n\
             add: krbAllowedToDelegateTo\\nkrbAllowedToDelegateTo: {target}\\n' | ldapmodify -Y EXTERNAL -H ldapi:///"
        )),
        Remedy::ad(format!(
            "Set-ADUser {account_name} -Add @{{'msDS-AllowedToDelegateTo'='{target_name}'}}"
        )),
        Remedy::ad(format!(
            "or, at the target: Set-ADComputer TARGET -PrincipalsAllowedToDelegateToAccount (Get-ADUser {account_name})"
        )),
        Remedy::samba(format!(
            "samba-tool delegation add-service {account_name} {target_name}"
        )),
        Remedy::freeipa(format!(
            "ipa servicedelegationrule-add kerbridge; ipa servicedelegationtarget-add kerbridge-targets; \
             ipa servicedelegationrule-add-target kerbridge --servicedelegationtargets=kerbridge-targets; \
             ipa servicedelegationrule-add-member kerbridge --principals={account_name}; \
             ipa servicedelegationtarget-add-member kerbridge-targets --principals={target_name}"
        )),
    ]
}

/// Makes a service known.
pub(super) fn create_target(target: &ServicePrincipal) -> [Remedy; 4] {
    let name = name(target.as_principal());
    [
        Remedy::mit(format!("kadmin -q 'addprinc -randkey {target}'")),
        Remedy::ad(format!("setspn -S {name} ACCOUNT")),
        Remedy::samba(format!("samba-tool spn add {name} ACCOUNT")),
        Remedy::freeipa(format!("ipa service-add {name}")),
    ]
}

/// Gives a service keys of today.
pub(super) fn rekey(target: &ServicePrincipal) -> [Remedy; 3] {
    [
        Remedy::mit(format!(
            "kadmin -q 'cpw -randkey -e aes256-cts-hmac-sha1-96:normal,aes128-cts-hmac-sha1-96:normal {target}'; kadmin.local -q 'ktadd -k KEYTAB -norandkey {target}'"
        )),
        Remedy::ad("Set-ADUser ACCOUNT -KerberosEncryptionType AES128,AES256, then reset its password"),
        Remedy::freeipa(format!(
            "ipa-getkeytab -p {} -k KEYTAB -e aes256-cts,aes128-cts",
            name(target.as_principal())
        )),
    ]
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
