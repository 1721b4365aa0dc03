//! Looks whether the collector of `[tracing]` takes spans, by an export of none.

use super::finding::{Finding, Remedy};
use crate::trace::{TracingRules, try_out};

const CHECK: &str = "collector";

/// Asks once. Spans that are lost refuse nobody: what is wrong is a warning.
pub(super) fn look(rules: &TracingRules) -> Finding {
    let subject = rules.endpoint.to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let taken = match runtime {
        Ok(runtime) => runtime.block_on(try_out(rules)),
        Err(error) => Err(error.to_string()),
    };
    match taken {
        Ok(()) => Finding::good(CHECK, subject, "takes spans"),
        Err(problem) => Finding::warning(
            CHECK,
            subject,
            format!("takes no spans, so that all are lost: {problem}"),
        )
        .mended_by([Remedy::any(
            "see that it runs, takes OTLP over HTTP in JSON at this path, and lets tracing.headers_file in",
        )]),
    }
}
