//! Reads the tables of the repository's documents.

/// What stands between backticks.
#[must_use]
pub fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Rows of every table whose header's first cell is this word, as cells.
#[must_use]
pub fn tables(document: &str, first: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim().trim_start_matches('|').trim_end_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut rows = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if line.starts_with('|') && cells(line).first().is_some_and(|cell| cell == first) {
            // The line of dashes goes with the header.
            let body = lines.by_ref().skip(1).take_while(|line| line.starts_with('|'));
            rows.extend(body.map(cells));
        }
    }
    rows
}

/// A block between fences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What stands behind the opening fence: the language, and more.
    pub info: String,
    /// Its lines, without the indent that the fence has.
    pub text: String,
}

/// The fenced blocks of a document, in their order.
#[must_use]
pub fn blocks(document: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let indent = line.len().saturating_sub(line.trim_start().len());
        let body = lines.by_ref().take_while(|line| line.trim() != "```");
        let body: Vec<&str> = body.map(|line| line.get(indent..).unwrap_or_default()).collect();
        found.push(Block {
            info: info.trim().to_owned(),
            text: body.join("\n"),
        });
    }
    found
}

/// Whether a program printed what a document says: each line of it in order, where `…` stands for anything.
#[must_use]
pub fn prints(printed: &str, expected: &str) -> bool {
    let mut lines = printed.lines();
    expected.lines().all(|line| {
        let parts: Vec<&str> = line.trim().split('…').collect();
        lines.any(|printed| {
            let mut rest = Some(printed.trim());
            for (at, part) in parts.iter().enumerate() {
                rest = rest.and_then(|text| match at {
                    0 => text.strip_prefix(part),
                    _ => text.split_once(part).map(|(_, rest)| rest),
                });
            }
            rest.is_some_and(|rest| rest.is_empty() || parts.last() == Some(&""))
        })
    })
}
