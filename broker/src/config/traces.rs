//! Decides where spans go, and what they may say.

use std::path::Path;

use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use kerbridge_wire::Span;

use super::key_source::{KeyPlace, UrlFields, check_url};
use super::raw;
use super::secret_file::{self, Reach};
use crate::problem::Problems;
use crate::trace::TracingRules;

const HEADERS: &str = "tracing.headers_file";
/// Most lines of the file.
const MOST_HEADERS: usize = 16;

pub(super) fn check(tracing: raw::Tracing, folder: &Path, problems: &mut Problems) -> Option<TracingRules> {
    let raw::Tracing {
        endpoint,
        ca,
        headers_file,
        timeout,
        service_name,
        principals,
        begin_per_mille,
    } = tracing;
    let fields = UrlFields {
        url: "tracing.endpoint".to_owned(),
        ca: "tracing.ca".to_owned(),
        remedy: "write \"http://127.0.0.1:4318/v1/traces\" for a collector on this machine, or https with ca",
        in_the_clear: "is not on loopback: whoever is on the way would read who comes when",
    };
    let ca = ca.map(|path| folder.join(path));
    let endpoint = match endpoint {
        Some(url) => check_url(&url, ca.as_deref(), &fields, problems),
        None => {
            problems.missing(&fields.url, fields.remedy);
            None
        }
    };
    let is_root = |place: &KeyPlace| match place {
        KeyPlace::Clear { path, .. } | KeyPlace::Tls { path, .. } | KeyPlace::Unix { path, .. } => path == "/",
        KeyPlace::File(_) => false,
    };
    if endpoint.as_ref().is_some_and(is_root) {
        problems.note(
            fields.url.as_str(),
            "names no path, and collectors take traces at one",
            "write the whole address, mostly with /v1/traces at its end",
        );
    }
    let headers = match headers_file {
        Some(path) => read_headers(&folder.join(path), problems),
        None => Some(Vec::new()),
    };
    let service_name = service_name.unwrap_or_else(|| "kerbridge".to_owned());
    let is_name = (1..=128).contains(&service_name.len()) && service_name.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_name {
        problems.note(
            "tracing.service_name",
            "is not 1 to 128 visible ASCII characters",
            "write a name such as \"kerbridge\"",
        );
    }
    let per_mille = begin_per_mille.unwrap_or(0);
    let per_mille = u16::try_from(per_mille).ok().filter(|number| *number <= 1000);
    if per_mille.is_none() {
        problems.note(
            "tracing.begin_per_mille",
            "is not 0 to 1000",
            "write how many in a thousand requests without a trace begin one",
        );
    }
    Some(TracingRules {
        endpoint: endpoint?,
        headers: headers?,
        timeout: timeout.unwrap_or(Span::TWO_SECONDS),
        service_name,
        principals: principals.unwrap_or(false),
        per_mille: per_mille?,
    })
}

/// The lines of the file, each a header line. Their values may be secrets.
fn read_headers(path: &Path, problems: &mut Problems) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let text = match secret_file::read(path, Reach::GroupReads) {
        Ok(text) => text,
        Err((problem, remedy)) => {
            problems.note(HEADERS, problem, remedy);
            return None;
        }
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let headers: Option<Vec<_>> = lines.map(header).collect();
    let headers = headers.filter(|headers| headers.len() <= MOST_HEADERS);
    if headers.is_none() {
        problems.note(
            HEADERS,
            format!(
                "{} is not up to {MOST_HEADERS} header lines for the collector",
                path.display()
            ),
            "write one `name: value` in each line; host, content-type and the like are set already",
        );
    }
    headers
}

fn header(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':')?;
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let mut value = HeaderValue::from_str(value.trim()).ok()?;
    value.set_sensitive(true);
    let is_ours = [HOST, CONTENT_TYPE, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name);
    (!is_ours).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn read(folder: &Path, text: &str) -> Result<TracingRules, String> {
        let mut problems = Problems::default();
        let section: raw::Tracing = crate::strict_toml::read(text, &mut problems).unwrap();
        match check(section, folder, &mut problems) {
            Some(rules) if problems.is_empty() => Ok(rules),
            Some(_) | None => Err(problems.to_string()),
        }
    }

    fn headers(mode: u32, text: &str) -> Result<TracingRules, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("headers");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        read(
            folder.path(),
            "endpoint = \"http://127.0.0.1:4318/v1/traces\"\nheaders_file = \"headers\"",
        )
    }

    #[test]
    fn spans_go_to_loopback_in_the_clear_and_say_nobodys_name_unless_told_to() {
        let rules = read(Path::new(""), "endpoint = \"http://127.0.0.1:4318/v1/traces\"").unwrap();
        assert_eq!(rules.endpoint.to_string(), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(
            (rules.timeout, rules.per_mille, rules.principals),
            (Span::TWO_SECONDS, 0, false)
        );
        assert_eq!(rules.service_name, "kerbridge");
    }

    #[test]
    fn each_mistake_is_named_with_its_field() {
        let good = "endpoint = \"http://127.0.0.1:4318/v1/traces\"\n";
        for (text, start) in [
            ("", "tracing.endpoint: is missing"),
            ("endpoint = \"http://collector:4318/v1/traces\"", "tracing.endpoint: "),
            (
                "endpoint = \"https://collector:4318/v1/traces\"",
                "tracing.ca: is missing",
            ),
            (
                "endpoint = \"http://127.0.0.1:4318\"",
                "tracing.endpoint: names no path",
            ),
            (&format!("{good}service_name = \"a b\""), "tracing.service_name: "),
            (&format!("{good}begin_per_mille = 1001"), "tracing.begin_per_mille: "),
            (&format!("{good}begin_per_mille = -1"), "tracing.begin_per_mille: "),
            (&format!("{good}headers_file = \"none\""), "tracing.headers_file: "),
        ] {
            let found = read(Path::new("/nowhere"), text).unwrap_err();
            assert!(found.starts_with(start), "{text}: {found}");
        }
    }

    #[test]
    fn the_collectors_token_is_kept_from_others_and_never_shown() {
        let rules = headers(0o600, "Authorization: Bearer canary\n\nx-tenant: 7\n").unwrap();
        assert_eq!(rules.headers.len(), 2);
        assert!(!format!("{rules:?}{:?}", rules.headers).contains("canary"));
        let open = headers(0o644, "authorization: x").unwrap_err();
        assert!(open.starts_with("tracing.headers_file: "), "{open}");
        for odd in ["no colon", "host: x", "a b: c", "a: \u{7}", &"a: b\n".repeat(17)] {
            let found = headers(0o600, odd).unwrap_err();
            assert!(found.starts_with("tracing.headers_file: "), "{odd}: {found}");
        }
    }
}
