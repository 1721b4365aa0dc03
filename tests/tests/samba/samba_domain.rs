//! Starts the one domain that all tests of this binary share, and a lab whose users are its users.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use kerbridge_tests::World;
use kerbridge_tests::curl::Answer;
use kerbridge_tests::kdc::Kdc;
use kerbridge_tests::samba::{Plan, Samba};
use kerbridge_tests::token::decode;
use kerbridge_tests::world::WorldBuilder;
use serde_json::Value;

/// Groups of [`MANY`], beside `order-clerks`.
pub(crate) const BULK: usize = 500;
/// A user in [`BULK`] groups, whose PAC has a long text besides.
pub(crate) const MANY: &str = "many";

/// Grants and routes that ask for groups.
pub(crate) const POLICY: &str = r#"
    [[audience]]
    name = "orders"
    [[audience]]
    name = "reports"
    [[audience]]
    name = "plain"
    [[grant]]
    groups = ["order-clerks"]
    audience = "orders"
    scopes = ["orders:read"]
    [[grant]]
    principals = ["*@AD.TEST"]
    groups = ["staff"]
    audience = "orders"
    scopes = ["orders:write"]
    [[grant]]
    principals = ["*@AD.TEST"]
    audience = "reports"
    [[grant]]
    principals = ["*@AD.TEST"]
    audience = "plain"
    [[route]]
    path_prefix = "/orders"
    accept = ["negotiate", "bearer"]
    audience = "orders"
    deliver = "header"
    [[route]]
    path_prefix = "/reports"
    accept = ["negotiate", "bearer"]
    audience = "reports"
    groups = ["local-readers"]
    deliver = "header"
    [[route]]
    path_prefix = "/plain"
    accept = ["negotiate", "bearer"]
    audience = "plain"
    deliver = "header"
    [filter]
    timeout = "10s" # a controller that others keep busy
    identity_headers = { groups = "x-kerbridge-groups" }
"#;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn plan() -> Plan {
    let bulk: Vec<String> = (0..BULK).map(|number| format!("bulk-{number:03}")).collect();
    let mut groups = words(&["order-clerks", "staff"]);
    let mut members: Vec<(String, String)> = [
        ("order-clerks", "alice"),
        ("order-clerks", MANY),
        // In another domain's words: nested.
        ("staff", "order-clerks"),
        ("local-readers", "alice"),
    ]
    .map(|(group, member)| (group.to_owned(), member.to_owned()))
    .into();
    for user in ["dora", "ed", "eve", "lena", "lou"] {
        members.push(("order-clerks".to_owned(), user.to_owned()));
    }
    members.extend(bulk.iter().map(|group| (group.clone(), MANY.to_owned())));
    groups.extend(bulk);
    Plan {
        users: words(&["alice", "bob", MANY, "dora", "ed", "eve", "lena", "lou", "reader"]),
        groups,
        local_groups: words(&["local-readers"]),
        members,
        // Up to 64 KiB of UTF-16 may stand in a PAC.
        attributes: vec![(MANY.to_owned(), "profilePath".to_owned(), "p".repeat(21_700))],
        ..Plan::default()
    }
}

/// The domain. It ends with this process; its folder, which nothing can remove then, is removed by the next run.
pub(crate) fn domain() -> &'static Samba {
    static DOMAIN: OnceLock<Samba> = OnceLock::new();
    DOMAIN.get_or_init(|| {
        let record = Path::new(env!("CARGO_TARGET_TMPDIR")).join("samba-folder");
        if let Ok(last) = std::fs::read_to_string(&record)
            && last.contains("kerbridge-samba-")
        {
            // It may have been removed by hand.
            drop(std::fs::remove_dir_all(last));
        }
        let samba = Samba::start(plan()).unwrap();
        std::fs::write(record, samba.folder().as_os_str().as_encoded_bytes()).unwrap();
        samba
    })
}

/// A lab with this `[groups]` table, and tickets of these users.
pub(crate) fn lab(groups: &str, users: &[&str]) -> WorldBuilder {
    let domain = domain();
    let tickets: BTreeMap<_, _> = users
        .iter()
        .map(|&user| (user.to_owned(), domain.kinit(user).unwrap()))
        .collect();
    World::builder()
        .domain(Kdc::attach(domain.folder()).unwrap(), domain.keytab(), tickets)
        .policy(POLICY)
        .broker_table(groups)
}

/// Names for the identifiers of these groups.
pub(crate) fn sid_names(groups: &[&str]) -> String {
    let mut table = "[groups.sid_names]\n".to_owned();
    for group in groups {
        table.push_str(&format!("{:?} = {group:?}\n", domain().sid(group).unwrap()));
    }
    table
}

/// The claims of the token that an answer brought.
pub(crate) fn claims(answer: &Answer) -> Value {
    let token = answer.header("x-kerbridge-token").unwrap_or_default();
    decode(token).map(|token| token.claims).unwrap_or_default()
}
