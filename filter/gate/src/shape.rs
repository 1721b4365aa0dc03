//! Says in people's words what serde expected of a value: the names of Rust's types mean nothing to who writes a configuration.

/// The message of an error of serde's, with ranges in the place of types.
pub fn in_words(message: &str) -> String {
    let Some((found, expected)) = message.split_once(", expected ") else {
        return message.to_owned();
    };
    let (expected, place) = expected
        .find(" at line ")
        .map_or((expected, ""), |at| expected.split_at(at));
    let found = match found {
        "invalid type: map" => "invalid type: a set of fields",
        "invalid type: sequence" => "invalid type: a list",
        other => other,
    };
    let expected = match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65,535",
        "u32" => "a whole number from 0 to 4,294,967,295",
        "u64" | "usize" => "a whole number from 0 on",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a set of fields",
        other if other.starts_with("struct ") => "a set of fields",
        other => other,
    };
    format!("{found}, expected {expected}{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_become_ranges_and_everything_else_stays() {
        for (message, words) in [
            (
                "invalid value: integer `-1`, expected u32",
                "invalid value: integer `-1`, expected a whole number from 0 to 4,294,967,295",
            ),
            (
                "invalid type: string \"x\", expected u32 at line 3 column 9",
                "invalid type: string \"x\", expected a whole number from 0 to 4,294,967,295 at line 3 column 9",
            ),
            (
                "invalid type: map, expected a string",
                "invalid type: a set of fields, expected a string",
            ),
            (
                "invalid type: sequence, expected struct JwksConfig",
                "invalid type: a list, expected a set of fields",
            ),
            ("missing field `routes`", "missing field `routes`"),
            (
                "unknown field `u`, expected `u32` or `u64`",
                "unknown field `u`, expected `u32` or `u64`",
            ),
        ] {
            assert_eq!(in_words(message), words);
        }
    }
}
