//! Writes a configuration that runs as it is, from what a keytab holds: all of its files or none.

mod made;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use kerbridge_gss::{Keytab, ServicePrincipal};
use kerbridge_wire::policy as wire_policy;

use self::made::{Made, NewFile};
use super::policy_render::DEPLOYED;
use super::{Failure, output};
use crate::config::{Config, Surroundings, check_keytab_file};
use crate::keyring::random;
use crate::problem::Problems;
use crate::render::{self, Inline, Module};
use crate::strict_toml;

#[derive(Debug, Args)]
pub(super) struct Init {
    /// The keytab with the keys of HTTP/… principals. It stays where it is.
    #[arg(long, value_name = "FILE")]
    keytab: PathBuf,
    /// The folder to write into; it is made where it is missing.
    #[arg(long, value_name = "DIR", default_value = "kerbridge")]
    dir: PathBuf,
    /// The new file for the key-encryption key, outside of what is backed up with the state folder. Where absent, kek in
    /// the folder.
    #[arg(long, value_name = "PATH")]
    kek: Option<PathBuf>,
    /// The issuer of the tokens: an https URL. Where absent, one is made from the realm.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
}

const CONFIG: &str = "kerbridge.toml";
const POLICY: &str = "policy.toml";
const KEY: &str = "kek";
const SNIPPET: &str = "filter.yaml";

pub(super) fn run(init: &Init) -> Result<(), Failure> {
    let keytab_path = std::path::absolute(&init.keytab).unwrap_or_else(|_| init.keytab.clone());
    let mut problems = Problems::default();
    let Some(keytab) = check_keytab_file(&keytab_path, "--keytab", &mut problems) else {
        return Err(output::complain_all(&keytab_path, &problems));
    };
    let (services, weak) = services(&keytab);
    let Some(first) = services.first() else {
        problems.note(
            "--keytab",
            nothing_usable(&keytab_path, &keytab, &weak),
            "let the KDC make one, HTTP/<host>@<REALM> with AES keys, and add it to a keytab",
        );
        return Err(output::complain_all(&keytab_path, &problems));
    };
    let issuer = match &init.issuer {
        Some(issuer) => issuer.clone(),
        None => format!("https://kerbridge.{}", first.realm().to_lowercase()),
    };
    let kek = match &init.kek {
        Some(path) => std::path::absolute(path).unwrap_or_else(|_| path.clone()),
        None => PathBuf::from(KEY),
    };
    let files = files(&keytab_path, &kek, &services, &issuer)?;
    let made = Made::write(&init.dir, &files).map_err(|error| {
        output::complain(error);
        Failure::Configuration
    })?;
    // What was written is read as `serve` will read it; where that fails nothing stays.
    if let Err(problems) = Config::load(&init.dir.join(CONFIG), &Surroundings::default()) {
        drop(made);
        output::complain("nothing was written: the configuration made of this keytab and these options would be wrong");
        return Err(output::complain_all(Path::new("it"), &problems));
    }
    made.keep();
    for service in &weak {
        output::complain(format_args!(
            "{service} is left out: the keytab holds only DES or RC4 keys of it; let the KDC make AES keys"
        ));
    }
    let folder = std::path::absolute(&init.dir).unwrap_or_else(|_| init.dir.clone());
    output::print(&next_steps(&init.dir, &folder, &kek, &services))
}

/// The HTTP services of a keytab, each once, in its order: those with a usable key, and those without. Others (a host's
/// own key) are no business of ours.
fn services(keytab: &Keytab) -> (Vec<ServicePrincipal>, Vec<ServicePrincipal>) {
    let usable = |service: &ServicePrincipal| {
        keytab
            .entries()
            .iter()
            .any(|entry| entry.principal() == service.as_principal() && !entry.enctype().is_weak())
    };
    keytab
        .principals()
        .into_iter()
        .filter_map(|principal| ServicePrincipal::try_from(principal).ok())
        .filter(|principal| principal.service() == "HTTP")
        .partition(usable)
}

fn nothing_usable(path: &Path, keytab: &Keytab, weak: &[ServicePrincipal]) -> String {
    let path = path.display();
    if weak.is_empty() {
        let held: Vec<String> = keytab.principals().iter().map(ToString::to_string).collect();
        return format!("{path} holds no HTTP/… principal; it holds {}", held.join(", "));
    }
    let weak: Vec<&str> = weak.iter().map(ServicePrincipal::as_str).collect();
    format!("{path} holds only DES or RC4 keys of {}", weak.join(", "))
}

fn files(keytab: &Path, kek: &Path, services: &[ServicePrincipal], issuer: &str) -> Result<Vec<NewFile>, Failure> {
    let policy = policy_text(services);
    let mut problems = Problems::default();
    let parsed = strict_toml::read::<wire_policy::Policy>(&policy, &mut problems);
    let Some(parsed) = parsed else {
        return Err(output::complain_all(Path::new(POLICY), &problems));
    };
    let module = Module {
        path: DEPLOYED.into(),
        sha256: None,
    };
    let snippet = render::envoy(&render::filter_config(issuer, &parsed, Inline::default()), &module)
        .map_err(|_| Failure::Running)?;
    let key = random::<32>().map_err(|error| {
        output::complain(error);
        Failure::Running
    })?;
    Ok(vec![
        NewFile {
            path: kek.to_owned(),
            mode: 0o600,
            text: format!("{}\n", STANDARD.encode(key.as_ref())),
        },
        NewFile {
            path: POLICY.into(),
            mode: 0o644,
            text: policy,
        },
        NewFile {
            path: SNIPPET.into(),
            mode: 0o644,
            text: format!(
                "# An entry for http_filters of Envoy's connection manager, before the router. Rendered from policy.toml;\n\
                 # after each change render it again: kerbridge policy render --config kerbridge.toml --output filter.yaml\n\
                 {snippet}"
            ),
        },
        NewFile {
            path: CONFIG.into(),
            mode: 0o644,
            text: config_text(keytab, kek, services, issuer),
        },
    ])
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn realms(services: &[ServicePrincipal]) -> Vec<&str> {
    let mut realms = Vec::new();
    for realm in services.iter().map(ServicePrincipal::realm) {
        if !realms.contains(&realm) {
            realms.push(realm);
        }
    }
    realms
}

fn config_text(keytab: &Path, kek: &Path, services: &[ServicePrincipal], issuer: &str) -> String {
    let realms = realms(services).into_iter().map(quoted).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        r#"# The broker's configuration. Relative paths start at this file's folder.
# After a change: kerbridge config check --config {CONFIG}

# iss of every token. Services compare it letter for letter, so choose it once.
issuer = {issuer}
# Signing keys (sealed), the replay cache, the krb5.conf that the broker runs under. Made at the first start, mode 0700.
state_dir = "state"
# Who may have what, and what a request must show.
policy_file = "{POLICY}"

# Where the filter asks. Envoy's cluster has this path in its endpoint's pipe.
[listen.mesh]
unix = "mesh.sock"
mode = "0660" # Envoy's user must be in the socket's group
# On another machine than Envoy: TLS, with client certificates. Files that are replaced are taken within seconds.
#tcp = "10.0.0.5:8443"
#certificate = "broker.pem"
#private_key = "broker.key"
#client_ca = "mesh-ca.pem"
# Of that authority's certificates only these, by their first DNS name, or where they have none their first URI; that name
# is client_id. Absent, all of them are taken.
#client_names = ["envoy.example.com"]

# For kerbridge revoke, on this machine: mode 0600, for root and the broker's user only.
[listen.admin]
unix = "admin.sock"

# For people and command lines.
#[listen.public]
#tcp = "0.0.0.0:8444"
#certificate = "broker.pem"
#private_key = "broker.key"

# /healthz, /readyz, /metrics.
#[listen.observe]
#tcp = "127.0.0.1:9464"
#clear_text = true

[kerberos]
# Whose principals are taken.
realms = [{realms}]
# How far the clocks of clients may be off.
clock_skew_seconds = 300
# RC4 and triple DES are refused unless they are named.
#weak_enctypes = ["arcfour-hmac"]
"#,
        issuer = quoted(issuer),
    );
    for service in services {
        text.push_str(&format!(
            "\n[[kerberos.acceptor]]\nprincipal = {}\nkeytab = {}\n",
            quoted(service.as_str()),
            quoted(&keytab.to_string_lossy()),
        ));
    }
    text.push_str(
        r#"
# Who is in which group, for groups = [...] in grants and routes: nobody, unless a source is named. docs/groups.md.
#[groups]
#source = "pac"                # the ticket's PAC (Active Directory, Samba), named here by objectSid
#[groups.sid_names]
#"S-1-5-21-1004336348-1177238915-682003330-1104" = "order-clerks"
#[groups]
#source = "ldap"               # a directory
#[groups.ldap]
#url = "ldaps://dc.example.com"
#ca = "ad-ca.pem"
#bind_dn = "CN=kerbridge,CN=Users,DC=example,DC=com"
#password_file = "ldap.password"
#base = "DC=example,DC=com"
#[groups]
#source = "static"             # a file: order-clerks = ["alice@EXAMPLE.COM"]
#static_file = "groups.toml"
"#,
    );
    text.push_str(&format!(
        r#"
# Whether tickets must be bound to the TLS channel, and the certificates that Envoy shows (docs/channel-bindings.md).
#[kerberos.channel_bindings]
#mode = "allow" # off, allow, require
#[[kerberos.channel_bindings.certificate]]
#server_names = ["*"]
#file = "/etc/envoy/tls/tls.crt"

# The key under which the signing key is sealed. Keep a copy of it, but never in one backup with the state folder: the one
# is worth nothing without the other, and whoever has both can sign.
[keys]
key_encryption_key_file = {kek}
# Under systemd, with LoadCredential=kek:…
#key_encryption_credential = "kek"
# Signing keys are replaced by themselves; kerbridge keys list shows them (docs/keys.md).
#algorithm = "ES256"   # RS256, EdDSA: first name it in filter.algorithms of the policy
#rotate_every = "30d"  # "never": by kerbridge keys rotate alone
#publish_lead = "15m"  # a key is published so long before it signs
#[keys.pkcs11]         # keys are made in a token and never leave it
#module = "/usr/lib/softhsm/libsofthsm2.so"
#token = "kerbridge"
#pin_file = "token.pin"

# What tokens call people: the full principal. See what becomes of one: kerbridge principal map NAME --config {CONFIG}
#[names]
#strip_realm_of = ["{realm}"] # alice@{realm} is "alice"; one realm at most
#instances = "refuse"     # alice/root is nobody, unless a rule names it
#unmatched = "refuse"     # so is whoever would keep a full principal
#auth_to_local = true     # in place of these three: as krb5.conf says
#[[names.rule]]           # rules come first; the first that matches decides
#match = "*/admin@{realm}"
#subject = "{{1}}-admin"

#[limits]
#threads = 2          # that call GSSAPI
#queue = 256          # tokens that may wait for one; more get 503
#deadline = "1500ms"  # for one exchange; less than the filter's timeout of 2s
#ticket_floor = "5s"  # least life of a ticket for which a token is minted
#connections = 1024   # open at once on each listener
#connections_per_source = 128  # of one source to listen.public; 0 for no limit
#failures_per_minute = 300     # of one source; it then gets 429 until some are forgiven; 0 for no limit
#shared_sources = ["10.0.0.9"] # a proxy or NAT with many clients behind it: not limited
#drain = "5s"         # for requests in flight, once no new ones are taken after SIGTERM
# How long new ones are still taken after SIGTERM, while /readyz is 503 already; absent means not at all. Where mesh or
# public is TCP behind a load balancer: as long as it takes to notice. The two together are to be less than the time
# after which whoever stops the broker kills it.
#drain_notice = "10s"

#[replay]
#store = true         # note each used ticket on disk, beside MIT's cache, which a power cut or a wrong clock gets around

#[log]
#level = "info"
"#,
        realm = services.first().map_or("", ServicePrincipal::realm),
        kek = quoted(&kek.to_string_lossy()),
    ));
    text
}

fn policy_text(services: &[ServicePrincipal]) -> String {
    let mut text = String::from(
        "# What may be had, who may have it, and what a request must show. The broker reads this file whole; the filter's\n\
         # configuration is rendered from it.\n\
         # After a change: kerbridge policy check --config kerbridge.toml\n",
    );
    let mut hosts: Vec<&str> = Vec::new();
    for host in services.iter().map(ServicePrincipal::host) {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    for host in &hosts {
        text.push_str(&format!(
            "\n# A token is for exactly one audience, and never outlives the ticket that it was made from.\n\
             [[audience]]\nname = {}\nttl = \"15m\"\n",
            quoted(host)
        ));
    }
    for host in &hosts {
        let principals = realms(services).into_iter().map(|realm| quoted(&format!("*@{realm}")));
        text.push_str(&format!(
            "\n# Everybody of the realm, but no service, no machine (WS01$) and no alice/admin. No grant, no token.\n\
             [[grant]]\nprincipals = [{}]\naudience = {}\nscopes = []\n",
            principals.collect::<Vec<_>>().join(", "),
            quoted(host)
        ));
    }
    for host in &hosts {
        let host = quoted(host);
        text.push_str(&format!(
            "\n# The first route that matches decides; where none does, the answer is 403.\n\
             [[route]]\nhost = {host}\npath_prefix = \"/\"\naccept = [\"negotiate\", \"bearer\"]\naudience = {host}\n\
             deliver = \"header\" # the client gets the token in x-kerbridge-token and can use it from then on\n"
        ));
    }
    text
}

/// Envoy has a working directory of its own, so what it is to be given is an absolute path.
fn next_steps(folder: &Path, absolute: &Path, kek: &Path, services: &[ServicePrincipal]) -> String {
    let elsewhere = if kek == Path::new(KEY) {
        "     init --kek PATH puts the key elsewhere\n"
    } else {
        ""
    };
    let kek = folder.join(kek);
    let (folder, absolute, kek) = (folder.display(), absolute.display(), kek.display());
    let names: Vec<&str> = services.iter().map(ServicePrincipal::as_str).collect();
    format!(
        "Wrote {folder}/{CONFIG}, {POLICY} and {SNIPPET}, and the key-encryption key {kek}, for {}.\n\n\
         Next:\n\
         \x20 1. read {folder}/{POLICY}: who may have what\n\
         \x20 2. kerbridge serve --config {folder}/{CONFIG}\n\
         \x20 3. put {folder}/{SNIPPET} into Envoy's http_filters, before the router, and add a cluster\n\
         \x20    kerbridge_broker whose endpoint is the pipe {absolute}/mesh.sock; Envoy looks for the module at\n\
         \x20    {DEPLOYED} (another place: kerbridge policy render --deployed-module PATH)\n\
         \x20 4. curl --negotiate -u : https://{}/\n\
         \x20 5. back up {absolute}/state and {kek}, never both in one backup: whoever has both can sign.\n\
         {elsewhere}",
        names.join(", "),
        services.first().map_or("", ServicePrincipal::host),
    )
}
