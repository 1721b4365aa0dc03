//! Writes the two configuration files of a realm: its clients' and its KDC's.

use std::path::Path;

use super::{Database, directory};

/// The clients': this realm only, no DNS, `localhost` in the realm.
pub(super) fn krb5_conf(realm: &str, folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "[libdefaults]\n\
         default_realm = {realm}\n\
         dns_lookup_kdc = false\n\
         dns_lookup_realm = false\n\
         dns_canonicalize_hostname = false\n\
         rdns = false\n\
         qualify_shortname = \"\"\n\
         udp_preference_limit = 1\n\
         forwardable = true\n\
         default_ccache_name = FILE:{folder}/no-default-ccache\n\
         default_keytab_name = FILE:{folder}/no-default-keytab\n\
         [realms]\n\
         {realm} = {{\n\
         kdc = 127.0.0.1:{port}\n\
         }}\n\
         [domain_realm]\n\
         localhost = {realm}\n\
         .localhost = {realm}\n"
    )
}

/// The KDC's. Whether the way that a ticket came is allowed is left to the acceptor, as Active Directory leaves it.
/// Passwords become keys by the two encryption types with the fewest iterations.
pub(super) fn kdc_conf(realm: &str, folder: &Path, port: u16, database: Database<'_>) -> String {
    let (database, module) = match database {
        Database::Db2 => (format!("database_name = {}/principal", folder.display()), String::new()),
        Database::Ldap(url) => ("database_module = directory".to_owned(), directory::module(url)),
    };
    let folder = folder.display();
    format!(
        "[kdcdefaults]\n\
         kdc_listen = 127.0.0.1:{port}\n\
         kdc_tcp_listen = 127.0.0.1:{port}\n\
         [realms]\n\
         {realm} = {{\n\
         {database}\n\
         key_stash_file = {folder}/stash\n\
         acl_file = {folder}/no-acl\n\
         max_life = 24h\n\
         max_renewable_life = 7d\n\
         reject_bad_transit = false\n\
         supported_enctypes = aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha1-96:normal\n\
         }}\n\
         {module}\
         [logging]\n\
         kdc = STDERR\n"
    )
}
