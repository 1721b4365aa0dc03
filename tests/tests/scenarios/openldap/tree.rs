//! A directory as sites of MIT krb5, FreeIPA and 389 have it, the users of a lab in it, and a lab that asks it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use kerbridge_tests::World;
use kerbridge_tests::curl::Answer;
use kerbridge_tests::kdc::{Ccache, Kdc};
use kerbridge_tests::openldap::{ACCOUNTS, OpenLdap, PASSWORD, Tree};
use kerbridge_tests::token::decode;
use kerbridge_tests::world::WorldBuilder;
use serde_json::Value;
use tempfile::TempDir;

const SUFFIX: &str = "dc=lab,dc=test";
/// Who asks, and may read what a directory is asked for.
const READER: &str = "cn=reader,dc=lab,dc=test";
/// Groups of `many`.
pub(super) const BULK: usize = 500;
const USERS: [&str; 4] = ["alice", "bob", "many", "alice/admin"];

/// Grants and routes that ask for groups, and one audience that asks for none.
const POLICY: &str = r#"
    [[audience]]
    name = "orders"
    [[audience]]
    name = "plain"
    [[grant]]
    groups = ["order-clerks", "staff", "everybody", "posix-clerks", "unique-clerks", "twins", "bulk-000", "bulk-499"]
    audience = "orders"
    scopes = ["orders:read"]
    [[grant]]
    principals = ["*@LAB.TEST"]
    audience = "plain"
    [[route]]
    path_prefix = "/orders"
    accept = ["negotiate", "bearer"]
    audience = "orders"
    deliver = "header"
    [[route]]
    path_prefix = "/plain"
    accept = ["negotiate", "bearer"]
    audience = "plain"
    deliver = "header"
    [filter]
    timeout = "10s" # a directory that others keep busy
"#;

/// A directory of a test's own, and the password of who asks it.
pub(super) struct Site {
    pub(super) ldap: OpenLdap,
    secrets: TempDir,
}

impl Site {
    pub(super) fn start() -> Self {
        Self::with("", &format!("limits dn.exact=\"{READER}\" size=unlimited"))
    }

    /// With these settings of the server and of the database.
    pub(super) fn with(settings: &str, database: &str) -> Self {
        let tree = Tree {
            suffix: SUFFIX.to_owned(),
            schemas: vec![ACCOUNTS.to_owned()],
            modules: vec!["memberof".to_owned(), "ppolicy".to_owned()],
            settings: settings.to_owned(),
            database: format!(
                "index member,uid,krbPrincipalName,cn eq\n\
                 {database}\n\
                 access to attrs=userPassword by anonymous auth by * none\n\
                 access to dn.subtree=\"ou=hidden,ou=groups,{SUFFIX}\" by * none\n\
                 access to * by dn.exact=\"{READER}\" read by dn.exact=\"cn=by-socket,{SUFFIX}\" read by anonymous auth\n\
                 overlay memberof\n\
                 overlay ppolicy\n"
            ),
            entries: entries(),
        };
        let secrets = tempfile::tempdir().unwrap();
        let file = secrets.path().join("password");
        std::fs::write(&file, PASSWORD).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
        Self {
            ldap: OpenLdap::start(&tree).unwrap(),
            secrets,
        }
    }

    /// A `[groups]` table that asks at this URL, by principal unless `more` says otherwise.
    pub(super) fn table(&self, url: &str, more: &str) -> String {
        let find_by = if more.contains("find_by") {
            ""
        } else {
            "find_by = \"principal\"\nprincipal_attribute = \"krbPrincipalName\""
        };
        let class = if more.contains("group_class") {
            ""
        } else {
            "group_class = \"groupOfNames\""
        };
        let ask = if more.contains("external") {
            String::new()
        } else {
            format!("bind_dn = {READER:?}\npassword_file = {:?}", self.password())
        };
        format!(
            "[groups]\nsource = \"ldap\"\n[groups.ldap]\nurl = {url:?}\n{ask}\nbase = \"{SUFFIX}\"\n{find_by}\n{class}\n{more}\n"
        )
    }

    /// The same over TLS.
    pub(super) fn private(&self, more: &str) -> String {
        let more = format!("ca = {:?}\n{more}", self.ldap.authority());
        self.table(&self.ldap.ldaps(), &more)
    }

    fn password(&self) -> PathBuf {
        self.secrets.path().join("password")
    }

    /// A lab that asks it over TLS, keeping no answer.
    pub(super) fn world(&self, more: &str) -> World {
        lab(&self.private(&format!("cache = \"none\"\n{more}")))
    }

    /// Adds attributes to an entry, or takes them away again.
    pub(super) fn modify(&self, change: &str, dn: &str, attribute: &str, value: &str) {
        let ldif = format!("dn: {dn}\nchangetype: modify\n{change}: {attribute}\n{attribute}: {value}\n");
        self.ldap.change(&ldif).unwrap();
    }

    /// Adds an entry.
    pub(super) fn add(&self, dn: &str, lines: &str) {
        let ldif = format!("dn: {dn}\nchangetype: add\n{lines}\n");
        self.ldap.change(&ldif).unwrap();
    }

    /// Connections that the broker has opened so far: each binds once.
    pub(super) fn connections(&self) -> usize {
        let bind = format!(" BIND dn=\"{READER}\" method=128");
        self.ldap.log().matches(&bind).count()
    }
}

/// A lab with this `[groups]` table, and tickets of all users. It waits long for a directory that others keep busy.
pub(super) fn lab(table: &str) -> World {
    builder(table)
        .broker_table("[limits]\ndeadline = \"9s\"")
        .start()
        .unwrap()
}

/// How long [`hasty`] waits, in milliseconds.
pub(super) const HASTY_MS: u64 = 3000;

/// The same where it is about how long it waits.
pub(super) fn hasty(table: &str) -> World {
    let limits = format!("[limits]\ndeadline = \"{HASTY_MS}ms\"");
    builder(table).broker_table(&limits).start().unwrap()
}

fn builder(table: &str) -> WorldBuilder {
    let kdc = Kdc::start("LAB.TEST").unwrap();
    kdc.add_service("HTTP/localhost").unwrap();
    let keytab = kdc.folder().join("http.keytab");
    kdc.extract_keytab(&["HTTP/localhost"], &keytab).unwrap();
    let mut tickets = BTreeMap::new();
    for user in USERS {
        kdc.add_user(user, "of the lab").unwrap();
        tickets.insert(user.to_owned(), kdc.kinit(user).unwrap());
    }
    around(kdc, keytab, tickets, table)
}

/// A lab around this realm.
pub(super) fn around(kdc: Kdc, keytab: PathBuf, tickets: BTreeMap<String, Ccache>, table: &str) -> WorldBuilder {
    World::builder()
        .domain(kdc, keytab, tickets)
        .policy(POLICY)
        .broker_table(table)
}

pub(super) fn person(name: &str) -> String {
    format!("uid={name},ou=people,{SUFFIX}")
}

pub(super) fn group(name: &str) -> String {
    format!("cn={name},ou=groups,{SUFFIX}")
}

/// What the token of this user says at `/orders`, or the status and reason of the refusal.
pub(super) fn groups_of(world: &World, user: &str) -> Result<Value, (u16, String)> {
    let answer = world.curl_as(user, "/orders/1").send().unwrap();
    match answer.status {
        200 => Ok(claims(&answer)["groups"].clone()),
        _ => Err(world.reason(&answer).unwrap()),
    }
}

pub(super) fn claims(answer: &Answer) -> Value {
    let token = answer.header("x-kerbridge-token").unwrap_or_default();
    decode(token).map(|token| token.claims).unwrap_or_default()
}

/// `groups_unavailable`, and what the broker's log says of it.
pub(super) fn unavailable() -> Result<Value, (u16, String)> {
    Err((503, "groups_unavailable".to_owned()))
}

/// What the first part of a distinguished name is called.
fn first_value(dn: &str) -> &str {
    let first = dn.split(',').next().unwrap_or_default();
    first.split_once('=').map_or(first, |(_, value)| value)
}

fn entries() -> String {
    let mut ldif = format!("dn: {SUFFIX}\nobjectClass: domain\ndc: lab\n\n");
    for unit in [
        "ou=people",
        "ou=groups",
        "ou=a,ou=groups",
        "ou=b,ou=groups",
        "ou=hidden,ou=groups",
    ] {
        let name = first_value(unit);
        ldif.push_str(&format!(
            "dn: {unit},{SUFFIX}\nobjectClass: organizationalUnit\nou: {name}\n\n"
        ));
    }
    ldif.push_str(&format!(
        "dn: {READER}\nobjectClass: applicationProcess\nobjectClass: simpleSecurityObject\ncn: reader\n\
         userPassword: {PASSWORD}\n\n"
    ));
    for user in ["alice", "bob", "many"] {
        ldif.push_str(&format!(
            "dn: {}\nobjectClass: inetOrgPerson\nobjectClass: krbPrincipalAux\ncn: {user}\nsn: {user}\nuid: {user}\n\
             krbPrincipalName: {user}@LAB.TEST\n\n",
            person(user)
        ));
    }
    let mut add = |dn: &str, class: &str, member: &str, of: &[String]| {
        let name = first_value(dn);
        ldif.push_str(&format!("dn: {dn}\nobjectClass: {class}\ncn: {name}\n"));
        for one in of {
            ldif.push_str(&format!("{member}: {one}\n"));
        }
        if class == "posixGroup" {
            ldif.push_str("gidNumber: 1000\n");
        }
        ldif.push('\n');
    };
    let of_names = "groupOfNames";
    add(
        &group("order-clerks"),
        of_names,
        "member",
        &[person("alice"), person("many")],
    );
    add(&group("staff"), of_names, "member", &[group("order-clerks")]);
    add(
        &group("everybody"),
        of_names,
        "member",
        &[group("staff"), person("bob")],
    );
    // Each in the other.
    add(
        &group("ring-a"),
        of_names,
        "member",
        &[group("ring-b"), person("alice")],
    );
    add(&group("ring-b"), of_names, "member", &[group("ring-a")]);
    add(
        &group("unique-clerks"),
        "groupOfUniqueNames",
        "uniqueMember",
        &[person("alice")],
    );
    add(&group("posix-clerks"), "posixGroup", "memberUid", &["alice".to_owned()]);
    // An entry with members that is no group.
    add(
        &format!("cn=board,{SUFFIX}"),
        "groupOfUniqueNames",
        "uniqueMember",
        &[person("bob")],
    );
    for number in 0..BULK {
        add(
            &group(&format!("bulk-{number:03}")),
            of_names,
            "member",
            &[person("many")],
        );
    }
    ldif
}
