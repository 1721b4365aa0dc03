//! Says what is wrong with an address that was given as an option, before anybody is asked there.

use super::finding::{Finding, Remedy};

/// What is wrong with text that is to be `HOST:PORT`; nothing where it is that.
pub(super) fn misread(check: &'static str, option: &str, text: &str) -> Option<Finding> {
    let is_address = |text: &str| {
        let parts = text.rsplit_once(':');
        parts.is_some_and(|(host, port)| {
            let is_port =
                port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
            let is_bracketed = host.starts_with('[') && host.ends_with(']');
            is_port && !host.is_empty() && !host.contains(['/', '@', ' ']) && (is_bracketed || !host.contains(':'))
        })
    };
    if is_address(text) {
        return None;
    }
    // Of an address of a page, host and port are what is meant.
    let meant = text.split_once("://").map_or(text, |(_, rest)| rest);
    let meant = meant.split(['/', '?', '#']).next().unwrap_or_default();
    let meant = if is_address(meant) { meant } else { "HOST:PORT" };
    Some(
        Finding::gap(
            check,
            text,
            format!("{option} is no HOST:PORT, so that nobody could be asked"),
        )
        .mended_by([Remedy::any(format!("{option} {meant}"))]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_host_and_port_is_said_with_what_was_meant() {
        for good in ["127.0.0.1:9901", "localhost:1", "[::1]:65535", "envoy.example.com:443"] {
            assert_eq!(misread("envoy", "--envoy-admin", good), None, "{good}");
        }
        for (text, meant) in [
            ("http://127.0.0.1:9901", "127.0.0.1:9901"),
            ("https://[::1]:8443/config_dump", "[::1]:8443"),
            ("http://localhost", "HOST:PORT"),
            ("127.0.0.1", "HOST:PORT"),
            ("127.0.0.1:0", "HOST:PORT"),
            ("127.0.0.1:70000", "HOST:PORT"),
            ("127.0.0.1:+80", "HOST:PORT"),
            ("::1:9901", "HOST:PORT"),
            (":9901", "HOST:PORT"),
            ("", "HOST:PORT"),
        ] {
            let finding = misread("envoy", "--envoy-admin", text).unwrap();
            assert_eq!(
                finding.remedies,
                [Remedy::any(format!("--envoy-admin {meant}"))],
                "{text}"
            );
        }
    }
}
