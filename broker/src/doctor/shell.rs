//! Writes names so that whatever a command is pasted into takes each for one word, and for nothing else: a person may be called
//! `o'neil`, and a name that somebody else chose may hold a command.

use std::borrow::Cow;
use std::fmt::Display;

use super::finding::Remedy;

/// One word for a POSIX shell.
pub(super) fn sh(word: &str) -> Cow<'_, str> {
    if is_plain(word) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(quoted(word))
    }
}

/// One word for PowerShell, which takes typographic quotation marks for plain ones.
pub(super) fn powershell(word: &str) -> Cow<'_, str> {
    if is_plain(word) {
        return Cow::Borrowed(word);
    }
    let mut text = String::from("'");
    for character in word.chars() {
        if matches!(character, '\'' | '\u{2018}'..='\u{201b}') {
            text.push(character);
        }
        text.push(character);
    }
    text.push('\'');
    Cow::Owned(text)
}

/// A question to MIT's `kadmin`, which a shell hands it as one word. Names in it are [`word`]s.
pub(super) fn kadmin(question: impl Display) -> Remedy {
    Remedy::mit(format!("kadmin -q {}", quoted(&question.to_string())))
}

/// One word of a question to `kadmin`.
pub(super) fn word(name: &str) -> Cow<'_, str> {
    if name.contains(|character: char| character.is_whitespace() || character == '"') {
        Cow::Owned(format!("\"{}\"", name.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(name)
    }
}

/// In the quotation marks of a POSIX shell, within which nothing is read but their end.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// No shell reads anything into it.
fn is_plain(word: &str) -> bool {
    word.starts_with(|first: char| first.is_alphanumeric() || first == '/')
        && word
            .chars()
            .all(|character| character.is_alphanumeric() || "._/@-:".contains(character))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const NAMES: [&str; 8] = [
        "alice@A.TEST",
        "HTTP/legacy.test@A.TEST",
        "WS01$@A.TEST",
        "o'neil@A.TEST",
        "al ice \"x\"@A.TEST",
        "a$(id)`id`;id&|<>*~#!@A.TEST",
        r"a\/b\\@A.TEST",
        "-élise%s\u{2019}@A.TEST",
    ];

    #[test]
    fn a_shell_takes_any_name_for_one_word() {
        for name in NAMES {
            let script = format!("printf '[%s]' {}", sh(name));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("[{name}]"));
        }
        assert_eq!((sh(NAMES[0]), powershell(NAMES[1])), (NAMES[0].into(), NAMES[1].into()));
    }

    #[test]
    fn a_question_to_kadmin_is_one_word_of_the_shells_and_a_name_one_of_its_own() {
        for name in NAMES {
            let command = kadmin(format_args!("getprinc {}", word(name))).command;
            let script = command.replacen("kadmin -q ", "printf '[%s]' ", 1);
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            let question = String::from_utf8(output.stdout).unwrap();
            assert_eq!(question, format!("[getprinc {}]", word(name)));
        }
        assert_eq!(word("al ice \"x\"@A.TEST"), "\"al ice \"\"x\"\"@A.TEST\"");
        assert_eq!(word("o'neil@A.TEST"), "o'neil@A.TEST");
    }

    #[test]
    fn powershell_takes_every_kind_of_quotation_mark_for_one() {
        assert_eq!(powershell("o'neil"), "'o''neil'");
        assert_eq!(powershell("o\u{2019}neil$(id)"), "'o\u{2019}\u{2019}neil$(id)'");
    }
}
