//! Checks that some ticket could ever be what the policy demands.

use super::raw;
use crate::policy::Policy;
use crate::problem::Problems;

/// What tickets can be, as far as the configuration decides that.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    /// Whether anybody looks at their channel bindings.
    bound: bool,
    /// Names of weak encryption types that are taken.
    weak: Vec<String>,
}

impl Tickets {
    pub(super) fn of(kerberos: &raw::Kerberos) -> Self {
        let raw::Kerberos {
            channel_bindings,
            weak_enctypes,
            ..
        } = kerberos;
        Self {
            bound: channel_bindings.mode.as_deref().is_some_and(|mode| mode != "off"),
            weak: weak_enctypes.clone(),
        }
    }

    /// Notes each demand of the policy that no ticket meets.
    pub(super) fn check(&self, policy: &Policy, problems: &mut Problems) {
        for (field, demands) in policy.demands() {
            if demands.channel_bound() && !self.bound {
                problems.note(
                    format!("{field}.channel_bound"),
                    "kerberos.channel_bindings.mode is off, so that no ticket counts as bound",
                    "write mode = \"allow\" there, or remove it here",
                );
            }
            let taken = |name: &String| self.weak.contains(name);
            let mut enctypes = demands.enctypes().peekable();
            let any = enctypes.peek().is_some();
            if any && enctypes.all(|enctype| enctype.is_weak() && !taken(&enctype.to_string())) {
                problems.note(
                    format!("{field}.enctypes"),
                    "names only weak encryption types, which kerberos.weak_enctypes does not",
                    "name another one, or add them there",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(kerberos: &str, demand: &str) -> Vec<String> {
        let mut problems = Problems::default();
        let kerberos: raw::Kerberos = crate::strict_toml::read(kerberos, &mut problems).unwrap();
        let text = format!(
            r#"
            audience = [{{ name = "orders" }}]
            grant = [{{ principals = ["*@R"], audience = "orders", {demand} }}]
            route = [{{ path = "/", access = "open" }}]"#
        );
        let file = crate::strict_toml::read(&text, &mut problems).unwrap();
        let policy = Policy::build(&file, &mut problems).unwrap();
        Tickets::of(&kerberos).check(&policy, &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_demand_that_no_ticket_can_meet_is_named() {
        let bound = "channel_bound = true";
        for (kerberos, demand, start) in [
            (
                "",
                bound,
                "grant[0].channel_bound: kerberos.channel_bindings.mode is off",
            ),
            (
                "channel_bindings = { mode = \"off\" }",
                bound,
                "grant[0].channel_bound: ",
            ),
            (
                "",
                r#"enctypes = ["arcfour-hmac"]"#,
                "grant[0].enctypes: names only weak",
            ),
        ] {
            let found = problems(kerberos, demand);
            assert_eq!(found.len(), 1, "{found:#?}");
            assert!(found[0].starts_with(start), "{found:#?}");
        }
        for (kerberos, demand) in [
            ("channel_bindings = { mode = \"allow\" }", bound),
            ("weak_enctypes = [\"arcfour-hmac\"]", r#"enctypes = ["arcfour-hmac"]"#),
            ("", r#"enctypes = ["arcfour-hmac", "aes256-cts-hmac-sha1-96"]"#),
            ("", ""),
        ] {
            assert_eq!(problems(kerberos, demand), Vec::<String>::new(), "{kerberos} {demand}");
        }
    }
}
