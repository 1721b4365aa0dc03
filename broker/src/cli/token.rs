//! Prints a token in the form that whoever uses it wants, and gets one first where there is none that is good for a while yet.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::client::{How, failed};
use super::{Failure, Output, output};
use crate::client::kept::Kept;
use crate::client::settings::Wanted;
use crate::client::trouble::{Kind, Trouble};
use crate::client::{self, Need};
use crate::time::moment::Rfc3339;
use crate::time::{Clock, UnixTime};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Print a token that is good for a while; get one first where there is none, or where it ends soon.
    Print(Print),
}

#[derive(Debug, Args)]
pub(super) struct Print {
    #[command(flatten)]
    how: How,
    /// How the token is printed.
    #[arg(long, value_enum, default_value_t = Format::Token)]
    format: Format,
}

/// A form of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Itself.
    Token,
    /// As the line of a request: Authorization: Bearer …
    Header,
    /// As a configuration of curl, for curl -K <(kerbridge token print --format curl URL) URL.
    Curl,
    /// With its end, its scopes and whose it is; a failure, too, is JSON then.
    Json,
    /// As a credential plugin of kubectl answers (client.authentication.k8s.io/v1).
    ExecCredential,
}

impl Format {
    const fn output(self) -> Output {
        match self {
            Self::Json => Output::Json,
            Self::Token | Self::Header | Self::Curl | Self::ExecCredential => Output::Text,
        }
    }
}

/// The one form of a credential that is written.
const EXEC_CREDENTIAL: &str = "client.authentication.k8s.io/v1";
/// Where Kubernetes says which it wants.
const EXEC_INFO: &str = "KUBERNETES_EXEC_INFO";

pub(super) fn run(command: &TokenCommand) -> Result<(), Failure> {
    let TokenCommand::Print(print) = command;
    let text = get(print).map_err(|trouble| failed(&trouble, print.format.output()))?;
    output::print(&text)
}

fn get(print: &Print) -> Result<String, Trouble> {
    if print.format == Format::ExecCredential {
        let asked = std::env::var(EXEC_INFO).ok();
        asked.as_deref().map_or(Ok(()), takes)?;
    }
    let settings = print.how.settings(print.how.remembered()?)?;
    let kept = client::token(&settings, &print.how.target().cache()?, Need::Good, Clock::System)?;
    // Where the service was asked with these authorities, curl needs them as well. What stands for a broker alone is not curl's.
    let authorities = match settings.wanted {
        Wanted::At(_) => settings.ca.as_deref(),
        Wanted::Named { .. } => None,
    };
    let authorities = authorities.map(|path| path.display().to_string());
    Ok(written(
        print.format,
        &kept,
        authorities.as_deref(),
        Clock::System.now(),
    ))
}

fn written(format: Format, kept: &Kept, authorities: Option<&str>, now: UnixTime) -> String {
    let token = kept.access_token.as_str();
    let until = Rfc3339(UnixTime::from_seconds(kept.expires_at)).to_string();
    match format {
        Format::Token => format!("{token}\n"),
        Format::Header => format!("Authorization: Bearer {token}\n"),
        Format::Curl => {
            let authorities = authorities.map(|path| format!("cacert = \"{}\"\n", quoted(path)));
            let authorities = authorities.unwrap_or_default();
            format!("header = \"Authorization: Bearer {token}\"\n{authorities}")
        }
        Format::Json => {
            let (kind, name) = kept.target.named();
            line(&json!({
                "access_token": token, "token_type": "Bearer", "expires_at": until, "expires_in": kept.left(now),
                "scope": kept.scope, "issuer": kept.issuer, "principal": kept.principal, kind: name,
            }))
        }
        Format::ExecCredential => line(&json!({
            "apiVersion": EXEC_CREDENTIAL,
            "kind": "ExecCredential",
            "status": { "token": token, "expirationTimestamp": until },
        })),
    }
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

/// A text between quotes of a curl configuration.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ => out.push(c),
        }
    }
    out
}

/// Whether Kubernetes takes what is written here.
fn takes(info: &str) -> Result<(), Trouble> {
    let info: Value = serde_json::from_str(info).unwrap_or_default();
    if info.get("apiVersion").and_then(Value::as_str) == Some(EXEC_CREDENTIAL) {
        return Ok(());
    }
    Err(Trouble::new(
        Kind::NoTarget,
        format!("{EXEC_INFO} asks for another credential than {EXEC_CREDENTIAL}"),
        format!("write apiVersion: {EXEC_CREDENTIAL} below exec in the kubeconfig"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::exchange::BearerToken;
    use crate::client::kept::Target;

    fn kept() -> Kept {
        Kept {
            principal: "alice@LAB.TEST".to_owned(),
            target: Target::Resource("https://api.example.com/orders".to_owned()),
            issuer: "https://broker.example.com".to_owned(),
            wanted: Vec::new(),
            scope: "orders:read".to_owned(),
            access_token: BearerToken::try_from("a.b.c".to_owned()).unwrap(),
            issued_at: 951_868_000,
            expires_at: 951_868_799,
            revocation_endpoint: None,
            ca: None,
        }
    }

    #[test]
    fn each_form_is_what_its_reader_takes() {
        let now = UnixTime::from_seconds(951_868_700);
        let written = |format, authorities| written(format, &kept(), authorities, now);
        assert_eq!(written(Format::Token, None), "a.b.c\n");
        assert_eq!(written(Format::Header, None), "Authorization: Bearer a.b.c\n");
        let header = "header = \"Authorization: Bearer a.b.c\"\n";
        assert_eq!(written(Format::Curl, None), header);
        assert_eq!(
            written(Format::Curl, Some("/a \"b\"\\c\n")),
            format!("{header}cacert = \"/a \\\"b\\\"\\\\c\\n\"\n")
        );
        let value: Value = serde_json::from_str(&written(Format::Json, None)).unwrap();
        assert_eq!(value["expires_in"], 99);
        assert_eq!(value["resource"], "https://api.example.com/orders");
        let value: Value = serde_json::from_str(&written(Format::ExecCredential, None)).unwrap();
        assert_eq!(
            value,
            json!({
                "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
                "status": { "token": "a.b.c", "expirationTimestamp": "2000-02-29T23:59:59Z" },
            })
        );
    }

    #[test]
    fn another_version_of_the_credential_is_refused_with_what_to_write() {
        assert!(takes(r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential"}"#).is_ok());
        for other in [
            r#"{"apiVersion":"client.authentication.k8s.io/v1beta1"}"#,
            "{}",
            "nonsense",
        ] {
            assert!(takes(other).unwrap_err().remedy.contains("apiVersion"), "{other}");
        }
    }
}
