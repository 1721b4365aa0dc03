//! Asks the doctor, and reads what it says.

use std::process::Command;

use kerbridge_tests::broker::{Broker, find_kerbridge};
use kerbridge_tests::delegation::DelegationRealm;
use serde_json::Value;

/// Who is asked for what.
pub(super) struct Question<'a> {
    pub(super) account: &'a str,
    pub(super) keytab: &'a str,
    pub(super) users: &'a [&'a str],
    pub(super) targets: &'a [&'a str],
}

/// What the doctor says.
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) findings: Vec<Value>,
}

/// The doctor, for whom a KDC that hangs is no reason to hang.
pub(crate) fn doctor() -> Command {
    let mut command = Command::new("timeout");
    command.arg("30").arg(find_kerbridge().unwrap()).arg("doctor");
    command
}

pub(super) fn ask(realm: &DelegationRealm, question: &Question<'_>) -> Answer {
    let Question {
        account,
        keytab,
        users,
        targets,
    } = question;
    let mut command = doctor();
    command
        .args(["delegation", "--account", &realm.principal(account), "--keytab"])
        .arg(realm.keytab(keytab));
    for target in *targets {
        command.args(["--target", &realm.principal(target)]);
    }
    for user in *users {
        command.args(["--user", &realm.principal(user)]);
    }
    Answer::to(&mut command, realm)
}

impl Answer {
    /// What a command says in a realm.
    pub(crate) fn to(command: &mut Command, realm: &DelegationRealm) -> Self {
        let output = command
            .args(["--output", "json"])
            .env("KRB5_CONFIG", realm.clients().krb5_config())
            .output()
            .unwrap();
        let findings = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        assert!(output.stderr.is_empty(), "{output:?}");
        Self {
            code: output.status.code().unwrap(),
            findings,
        }
    }

    /// What it says of a broker's configuration.
    pub(crate) fn of_broker(broker: &Broker, realm: &DelegationRealm, words: &[&str]) -> Self {
        Self::to(doctor().args(words).arg("--config").arg(broker.config()), realm)
    }

    /// Each finding in short: `target good`, `user bad evidence_not_forwardable`.
    pub(crate) fn short(&self) -> Vec<String> {
        let line = |finding: &Value| {
            let [check, verdict, reason] =
                ["check", "verdict", "reason"].map(|name| finding[name].as_str().unwrap_or_default());
            let check = check.replace("delegation_", "");
            format!("{check} {verdict} {reason}").trim_end().to_owned()
        };
        self.findings.iter().map(line).collect()
    }

    /// The commands for one system, in order.
    pub(super) fn commands(&self, system: &str) -> Vec<&str> {
        let remedies = self
            .findings
            .iter()
            .filter_map(|finding| finding["remedies"].as_array());
        let of_system = remedies.flatten().filter(|remedy| remedy["system"] == system);
        of_system.filter_map(|remedy| remedy["command"].as_str()).collect()
    }
}

/// The same, of one user and one target.
pub(super) fn of(realm: &DelegationRealm, account: &str, user: &str, target: &str) -> Answer {
    let question = Question {
        account,
        keytab: account,
        users: &[user],
        targets: &[target],
    };
    ask(realm, &question)
}
