//! Tells principals apart that only look alike, in one canonical text each.
//!
//! `alice/admin@R` is not `alice@R`, nothing is folded, and a separator inside a component stays
//! escaped, so that two different principals never have the same text.

pub mod mapping;

use kerbridge_gss::{Principal, PrincipalError};

/// Most components of a name that we read.
pub const MOST_COMPONENTS: usize = 8;

/// Reads `component[/component…]@REALM` and writes it again with no escapes but those that are needed.
pub fn canonical(text: &str) -> Result<Principal, PrincipalError> {
    let principal = Principal::parse(text)?;
    let components = parts(&principal);
    let components: Vec<&str> = components.iter().map(String::as_str).collect();
    from_components(&components, &unescaped(principal.realm(), false).concat())
}

/// Puts a principal together from its unescaped parts, as they stand in a ticket (RFC 4120 §5.2.2).
pub fn from_components(components: &[&str], realm: &str) -> Result<Principal, PrincipalError> {
    let mut text = String::new();
    for (index, component) in components.iter().enumerate() {
        if index > 0 {
            text.push('/');
        }
        escape(component, &mut text);
    }
    text.push('@');
    escape(realm, &mut text);
    Principal::parse(&text)
}

/// `sAMAccountName` has 20 characters for people, 256 at most.
const LONGEST_ACCOUNT: usize = 256;

/// The principal of a domain's account, where its name is none that could be read as more than a name.
pub fn of_account(account: &str, realm: &str) -> Option<Principal> {
    let is_plain = !account.contains(|c: char| c.is_whitespace() || c.is_control() || "@/\\".contains(c));
    let is_name = is_plain && !account.is_empty() && account.len() <= LONGEST_ACCOUNT;
    if is_name {
        from_components(&[account], realm).ok()
    } else {
        None
    }
}

/// How many components the name has; a person's has one.
pub fn components(principal: &Principal) -> usize {
    parts(principal).len()
}

/// First components of the KDC's own names: whoever had a ticket of one would be the KDC, or its administrator.
const OF_THE_KDC: [&str; 4] = ["krbtgt", "kadmin", "kiprop", "changepw"];

/// Whether it is one of the KDC's own: `krbtgt/REALM`, `kadmin/admin` and others like them, in any case, and Active Directory's account
/// `krbtgt`.
pub fn is_of_the_kdc(principal: &Principal) -> bool {
    let is = |part: &str, name: &str| part.eq_ignore_ascii_case(name);
    match parts(principal).as_slice() {
        [only] => is(only, "krbtgt"),
        // `K/M` has the key under which MIT's database is.
        [first, ..] => OF_THE_KDC.iter().any(|name| is(first, name)) || principal.name() == "K/M",
        [] => true,
    }
}

/// Whether it is a name as people have them: one component, nothing in it that divides names elsewhere, and no machine's (`WS01$`,
/// MS-SAMR §3.1.1.8.4).
pub fn is_persons(principal: &Principal) -> bool {
    let name = principal.name();
    !name.contains(['/', '\\']) && !name.ends_with('$') && !is_of_the_kdc(principal)
}

/// Whether a separator stands in one of its components. Another reader may well take it for one that divides.
pub fn is_escaped(principal: &Principal) -> bool {
    principal.name().contains('\\')
}

/// The name's components, unescaped: a separator in one of them is a part of it.
pub fn parts(principal: &Principal) -> Vec<String> {
    unescaped(principal.name(), true)
}

fn unescaped(text: &str, divide: bool) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let character = match character {
            '/' if divide => {
                parts.push(String::new());
                continue;
            }
            '\\' => characters.next().unwrap_or('\\'),
            other => other,
        };
        if let Some(last) = parts.last_mut() {
            last.push(character);
        }
    }
    parts
}

fn escape(part: &str, into: &mut String) {
    for character in part.chars() {
        if matches!(character, '/' | '@' | '\\') {
            into.push('\\');
        }
        into.push(character);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_alike_stays_apart() {
        let alice = canonical("alice@R").unwrap();
        for other in [
            "alice/admin@R",
            "Alice@R",
            "alice@r",
            "alice@R2",
            r"alice\/admin@R",
            r"alice\@R@R",
        ] {
            assert_ne!(canonical(other).unwrap(), alice, "{other}");
        }
        assert_ne!(canonical(r"a\/b@R").unwrap(), canonical("a/b@R").unwrap());
        assert_eq!(components(&canonical(r"a\/b@R").unwrap()), 1);
        assert_eq!(components(&canonical("a/b@R").unwrap()), 2);
    }

    #[test]
    fn a_principal_has_one_text() {
        assert_eq!(canonical(r"al\ice@\R").unwrap().as_str(), "alice@R");
        for parts in [&["alice"][..], &["HTTP", "host"], &["a/b", "c@d\\e"]] {
            let principal = from_components(parts, "R.TEST").unwrap();
            assert_eq!(canonical(principal.as_str()).unwrap(), principal);
            assert_eq!(components(&principal), parts.len());
        }
    }

    #[test]
    fn a_persons_name_is_one_plain_component_and_the_kdcs_own_are_nobodys() {
        for (text, persons, of_the_kdc) in [
            ("alice@R", true, false),
            ("al.ice-1@R", true, false),
            ("kadmin@R", true, false),
            ("alice/admin@R", false, false),
            ("HTTP/web.r@R", false, false),
            (r"bob\@corp@R", false, false),
            (r"a\/b@R", false, false),
            ("WS01$@R", false, false),
            ("krbtgt@R", false, true),
            ("krbtgt/R@R", false, true),
            ("KrbTgt/S@R", false, true),
            ("kadmin/admin@R", false, true),
            ("kadmin/changepw@R", false, true),
            ("kiprop/kdc.r@R", false, true),
            ("K/M@R", false, true),
        ] {
            let principal = canonical(text).unwrap();
            assert_eq!(
                (is_persons(&principal), is_of_the_kdc(&principal)),
                (persons, of_the_kdc),
                "{text}"
            );
        }
    }

    #[test]
    fn parts_that_make_no_principal_are_refused() {
        for (parts, realm) in [
            (&[][..], "R"),
            (&[""], "R"),
            (&["a"], ""),
            (&["a", ""], "R"),
            (&["a\nb"], "R"),
        ] {
            assert!(from_components(parts, realm).is_err(), "{parts:?} {realm}");
        }
    }
}
