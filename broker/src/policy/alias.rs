//! Says which service principals may be names of one account, by the names alone: in Active Directory an account answers to more
//! names than those that are written down.
//!
//! What a domain adds is not all to be seen in a name. Whether a ticket is for an account of ours is known when it is there: a key
//! of ours opens it ([`crate::delegation::kdc`]).

use kerbridge_gss::Principal;

use crate::principal;

/// What a machine's account answers to as `host` (`sPNMappings` of Active Directory, those of them that are of the web).
const OF_A_HOST: [&str; 4] = ["host", "http", "www", "w3svc"];

/// Whether both may be the same account's: of one realm, with the same name but for the case of ASCII letters; or for the same host,
/// which may be short in one of them and may have a port, with a word for the service that means the same to a domain.
pub fn may_be_one_account(one: &Principal, other: &Principal) -> bool {
    if one.realm() != other.realm() {
        return false;
    }
    if one.name().eq_ignore_ascii_case(other.name()) {
        return true;
    }
    let (one, other) = (principal::parts(one), principal::parts(other));
    let ([service, host, ..], [other_service, other_host, ..]) = (one.as_slice(), other.as_slice()) else {
        return false;
    };
    is_one_service(service, other_service) && is_one_host(host, other_host)
}

fn is_one_service(one: &str, other: &str) -> bool {
    let of_a_host = |word: &str| OF_A_HOST.iter().any(|known| known.eq_ignore_ascii_case(word));
    one.eq_ignore_ascii_case(other) || (of_a_host(one) && of_a_host(other))
}

fn is_one_host(one: &str, other: &str) -> bool {
    // `HTTP/host:8080`
    let [one, other] = [one, other].map(|host| host.split_once(':').map_or(host, |(host, _)| host));
    match (one.split_once('.'), other.split_once('.')) {
        (Some((short, _)), None) => short.eq_ignore_ascii_case(other),
        (None, Some((short, _))) => short.eq_ignore_ascii_case(one),
        (Some(_), Some(_)) | (None, None) => one.eq_ignore_ascii_case(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_domain_may_take_for_one_account_are_told() {
        let own = Principal::parse("HTTP/api.example.com@EXAMPLE.COM").unwrap();
        for (name, is_so) in [
            ("HTTP/api.example.com@EXAMPLE.COM", true),
            ("http/API.example.com@EXAMPLE.COM", true),
            ("host/api.example.com@EXAMPLE.COM", true),
            ("HOST/api@EXAMPLE.COM", true),
            ("HTTP/api@EXAMPLE.COM", true),
            ("www/Api@EXAMPLE.COM", true),
            ("HTTP/api.example.com:8443@EXAMPLE.COM", true),
            ("HTTP/api:8443@EXAMPLE.COM", true),
            ("HTTP/api.example.com/example.com@EXAMPLE.COM", true),
            ("HTTP/api.example.com@OTHER.COM", false),
            ("HTTP/api2.example.com@EXAMPLE.COM", false),
            ("HTTP/api.other.com@EXAMPLE.COM", false),
            ("HTTP/legacy.example.com@EXAMPLE.COM", false),
            ("ldap/api.example.com@EXAMPLE.COM", false),
            ("HTTP@EXAMPLE.COM", false),
            (r"HTTP\/api.example.com@EXAMPLE.COM", false),
        ] {
            let other = Principal::parse(name).unwrap();
            assert_eq!(may_be_one_account(&own, &other), is_so, "{name}");
            assert_eq!(may_be_one_account(&other, &own), is_so, "{name}");
        }
        let account = Principal::parse("bridge@EXAMPLE.COM").unwrap();
        assert!(may_be_one_account(
            &account,
            &Principal::parse("Bridge@EXAMPLE.COM").unwrap()
        ));
        assert!(!may_be_one_account(&account, &own));
    }
}
