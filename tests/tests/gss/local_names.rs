//! Local names: what krb5.conf says, and nothing for whom it says nothing.

use kerbridge_gss::{Principal, local_name};

use crate::world::in_world;

fn local(principal: &str) -> Option<String> {
    local_name(&Principal::parse(principal).unwrap())
}

#[test]
fn a_local_name_is_what_krb5_conf_says_and_otherwise_there_is_none() {
    in_world(
        "local_names::a_local_name_is_what_krb5_conf_says_and_otherwise_there_is_none",
        |world| {
            // Without rules: users of the default realm, and nobody else.
            assert_eq!(local("alice@LAB.TEST").as_deref(), Some("alice"));
            for nobody in [
                "alice/admin@LAB.TEST",
                "alice@OTHER.TEST",
                "alice@lab.test",
                r"a\/b/c@LAB.TEST",
            ] {
                assert_eq!(local(nobody), None, "{nobody}");
            }
            let config = std::fs::read_to_string(world.kdc.krb5_config()).unwrap();
            let rules = "[realms]\nLAB.TEST = {\nauth_to_local = RULE:[2:$1.$2](.*\\.admin)\n\
                         auth_to_local_names = {\nalice = alice.lab\n}\n}\n";
            std::fs::write(world.kdc.krb5_config(), format!("{config}{rules}")).unwrap();
            assert_eq!(local("alice/admin@LAB.TEST").as_deref(), Some("alice.admin"));
            assert_eq!(local("alice@LAB.TEST").as_deref(), Some("alice.lab"));
            assert_eq!(
                local("bob@LAB.TEST"),
                None,
                "rules that leave DEFAULT out have no name for others"
            );
        },
    );
}
