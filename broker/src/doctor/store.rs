//! Says whether the database that brokers share can be written, and whether its clock is theirs.

use kerbridge_wire::Reason;

use super::finding::{Finding, Remedy};
use crate::store::{DatabaseLook, PostgresConfig, look_at_database};
use crate::time::UnixTime;

const CHECK: &str = "store";
/// Seconds by which clocks may differ before one that is ahead outruns revocations up to a time.
const APART: u64 = 2;

/// Connects to the database; nothing is changed there.
pub fn look(config: &PostgresConfig, clock: impl Fn() -> UnixTime) -> Vec<Finding> {
    let subject = format!("database {}", config.database);
    let before = clock();
    let looked = look_at_database(config);
    vec![judge(
        &subject,
        looked.map_err(|problem| (problem.problem, problem.remedy)),
        before,
        clock(),
    )]
}

fn judge(subject: &str, looked: Result<DatabaseLook, (String, String)>, before: UnixTime, after: UnixTime) -> Finding {
    let DatabaseLook { server, clock, is_made } = match looked {
        Ok(looked) => looked,
        Err((problem, remedy)) => {
            return Finding::bad(CHECK, subject, Reason::StoreUnavailable, problem).mended_by([Remedy::any(remedy)]);
        }
    };
    let behind = clock.until(before);
    let ahead = after.until(clock);
    if behind > APART || ahead > APART {
        let by = behind.max(ahead);
        return Finding::warning(
            CHECK,
            subject,
            format!("the server's clock is {by} s from this machine's"),
        )
        .mended_by([Remedy::any("on both machines: timedatectl set-ntp true".to_owned())]);
    }
    let made = if is_made {
        ""
    } else {
        "; the first broker that starts makes the store"
    };
    Finding::good(CHECK, subject, format!("PostgreSQL {server} can be written{made}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Verdict;

    #[test]
    fn a_database_is_good_where_it_can_be_written_and_has_our_time() {
        let at = UnixTime::from_seconds;
        let look = |clock: u64| {
            Ok(DatabaseLook {
                server: "15.1".into(),
                clock: at(clock),
                is_made: true,
            })
        };
        for (clock, verdict) in [
            (1000, Verdict::Good),
            (998, Verdict::Good),
            (1007, Verdict::Good),
            (997, Verdict::Warning),
            (1008, Verdict::Warning),
        ] {
            assert_eq!(
                judge("database", look(clock), at(1000), at(1005)).verdict,
                verdict,
                "{clock}"
            );
        }
        let away = judge("database", Err(("gone".into(), "start it".into())), at(1), at(1));
        assert_eq!(
            (away.verdict, away.reason),
            (Verdict::Bad, Some(Reason::StoreUnavailable))
        );
        assert_eq!(away.remedies.len(), 1);
    }
}
