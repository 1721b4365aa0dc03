//! Finds the audience that a request names: by name (RFC 8693 §2.1), by address (RFC 8707 §2), or by both, which must then be
//! one.

use kerbridge_wire::Reason;

use super::Refusal;
use crate::policy::{Audience, Policy};

/// How a request names what it is for. One of the two is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) audience: Option<String>,
    pub(super) resource: Option<String>,
}

impl Target {
    /// What the log calls it.
    pub(super) fn as_str(&self) -> &str {
        self.audience
            .as_deref()
            .or(self.resource.as_deref())
            .unwrap_or_default()
    }

    /// The audience of the policy.
    pub(super) fn find<'p>(&self, policy: &'p Policy) -> Result<&'p Audience, Refusal> {
        let Self { audience, resource } = self;
        let by_name = audience.as_ref().map(|name| policy.audience(name));
        let by_address = resource.as_ref().map(|resource| policy.audience_at(resource));
        match (by_name, by_address) {
            (Some(Some(one)), None) | (None, Some(Some(one))) => Ok(one),
            (Some(Some(one)), Some(Some(other))) if one == other => Ok(one),
            (Some(Some(_)), Some(Some(_))) => Err(refusal("audience and resource are two services")),
            (Some(None), _) => Err(refusal("the audience is not in the policy")),
            (_, Some(None)) => Err(refusal("no audience of the policy has this resource")),
            (None, None) => Err(refusal("there is neither audience nor resource")),
        }
    }
}

fn refusal(detail: &str) -> Refusal {
    Refusal::new(Reason::InvalidTarget, detail)
}

#[cfg(test)]
mod tests {
    use kerbridge_wire::policy as raw;

    use super::*;
    use crate::problem::Problems;

    #[test]
    fn a_service_is_found_by_name_by_address_and_by_both_where_they_are_one() {
        let mut problems = Problems::default();
        let file: raw::Policy = crate::strict_toml::read(
            r#"
            audience = [{ name = "orders", resource = "https://api.test/orders" }, { name = "billing" }]
            grant = [{ principals = ["*@A.TEST"], audience = "orders" }]
            route = [{ path = "/", access = "open" }]"#,
            &mut problems,
        )
        .unwrap();
        let policy = Policy::build(&file, &mut problems).unwrap();
        let find = |audience: Option<&str>, resource: Option<&str>| {
            let target = Target {
                audience: audience.map(str::to_owned),
                resource: resource.map(str::to_owned),
            };
            let found = target.find(&policy).map(|audience| audience.name().to_owned());
            found.map_err(|refusal| refusal.reason)
        };
        let address = Some("https://api.test/orders");
        assert_eq!(find(Some("orders"), None).as_deref(), Ok("orders"));
        assert_eq!(find(None, address).as_deref(), Ok("orders"));
        assert_eq!(find(Some("orders"), address).as_deref(), Ok("orders"));
        for (audience, resource) in [
            (Some("billing"), address),
            (Some("nowhere"), address),
            (Some("orders"), Some("https://api.test/orders/")),
            (None, Some("https://API.test/orders")),
            (None, Some("orders")),
            (None, None),
        ] {
            assert_eq!(
                find(audience, resource),
                Err(Reason::InvalidTarget),
                "{audience:?} {resource:?}"
            );
        }
    }
}
