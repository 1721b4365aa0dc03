//! Reads Envoy's access log out of all that Envoy printed.
//!
//! Envoy's own log comes to the same file by another way, and may stand in the middle of a line of the access log.

use serde_json::Value;

/// How a line of Envoy's own log begins: with the time.
const OWN: &str = "[20";

/// The lines of the access log, each a JSON object, in their order; those that are not whole yet are left out.
pub(crate) fn lines(log: &str) -> Vec<Value> {
    let mut whole = Vec::new();
    let mut begun = String::new();
    for line in log.lines() {
        if let Ok(value) = serde_json::from_str(line) {
            whole.push(value);
            continue;
        }
        let part = line.split(OWN).next().unwrap_or_default();
        if part.starts_with('{') {
            begun.clear();
        } else if begun.is_empty() {
            continue;
        }
        begun.push_str(part);
        if let Ok(value) = serde_json::from_str(&begun) {
            whole.push(value);
            begun.clear();
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::lines;

    #[test]
    fn a_line_is_read_though_another_log_stands_in_its_middle() {
        let log = "[2026-11-26 09:04:03.1][1][info][main] begins\n\
            {\"id\":1}\n\
            {\"id\":2,\"method\":\"[2026-11-26 09:04:03.9][7][warning][wasm] wasm log: refused\n\
            [2026-11-26 09:04:03.9][7][warning][wasm] another\n\
            GET\",\"path\":\"/[2026-11-26 09:04:03.9][8][info][wasm] a third\n\
            x\"}\n\
            {\"id\":3}\n\
            {\"id\":4,\"met";
        assert_eq!(
            lines(log),
            [
                json!({"id": 1}),
                json!({"id": 2, "method": "GET", "path": "/x"}),
                json!({"id": 3})
            ]
        );
    }
}
