use std::io::Write;
use std::sync::{Arc, Mutex};

use super::*;

/// What was written.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn messages(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        text.lines()
            .map(|text| line(text)["message"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[test]
fn audit_events_are_written_at_every_level_of_the_log_and_nowhere_else() {
    for level in [LevelFilter::ERROR, LevelFilter::WARN, LevelFilter::TRACE] {
        let (log, audit) = (Written::default(), Written::default());
        let (to_log, to_audit) = (log.clone(), audit.clone());
        let subscriber = subscriber(level, move || to_log.clone(), move || to_audit.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: TARGET, "an audit event");
            tracing::error!("of the log");
            tracing::info!("said at info");
        });
        assert_eq!(audit.messages(), ["an audit event"], "{level}");
        let expected: &[&str] = match level {
            LevelFilter::TRACE => &["of the log", "said at info"],
            _ => &["of the log"],
        };
        assert_eq!(log.messages(), expected, "{level}");
    }
}

#[tokio::test]
async fn nobody_waits_where_the_configuration_does_not_want_it() {
    let audit = Audit::default();
    assert_eq!(audit.ready(), Ok(()));
    assert_eq!(audit.mark(), None);
    assert_eq!(audit.written(None, Instant::now()).await, Ok(()));
}
