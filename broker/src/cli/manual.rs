//! Writes the manual pages, one for each command, from what the help of the command line says.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{Cli, Failure, exit, output};

/// Who the pages are for, beside their title.
const MANUAL: &str = "kerbridge manual";

#[derive(Debug, Args)]
pub(super) struct Manual {
    /// Where the pages are put, one for each command; what is there of their names is replaced.
    folder: PathBuf,
    /// The date that the pages have.
    #[arg(long, value_name = "YYYY-MM-DD", default_value = "")]
    date: String,
}

pub(super) fn run(manual: &Manual) -> Result<(), Failure> {
    write(&manual.folder, &manual.date).map_err(|error| {
        output::complain(format_args!(
            "{}: {error}; name a folder that you may write to",
            manual.folder.display()
        ));
        Failure::Running
    })
}

fn write(folder: &Path, date: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    all(&command).into_iter().try_for_each(|command| {
        let page = page(command, date)?;
        fs::write(folder.join(format!("{}.1", name(command))), page)
    })
}

/// A command and all below it.
fn all(command: &Command) -> Vec<&Command> {
    let below = command.get_subcommands().filter(|one| !one.is_hide_set()).flat_map(all);
    std::iter::once(command).chain(below).collect()
}

/// `kerbridge-policy-render`, as `man` has it.
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn page(command: &Command, date: &str) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .title(name(command).to_uppercase())
        .date(date)
        .source(format!("kerbridge {}", env!("CARGO_PKG_VERSION")))
        .manual(MANUAL);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut roff = Roff::default();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, says, commands) in exit::CODES {
        roff.control("TP", []);
        roff.text([bold(code.to_string())]);
        let only = if commands.is_empty() {
            String::new()
        } else {
            format!(" ({commands})")
        };
        roff.text([roman(format!("{says}{only}"))]);
    }
    roff.control("SH", ["SEE ALSO"]);
    for (last, page) in [
        (false, "kerbridge(1)"),
        (false, "kerbridge.toml(5)"),
        (true, "kerbridge-policy.toml(5)"),
    ] {
        let end = if last { "" } else { "," };
        roff.text([roman(format!("{page}{end}"))]);
    }
    roff.to_writer(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_with_its_options_and_the_exit_codes() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "2026-01-02").unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let page = read("kerbridge-policy-render.1");
        assert!(
            page.starts_with(".ie \\n(.g") || page.contains(".TH KERBRIDGE-POLICY-RENDER 1 2026-01-02"),
            "{page}"
        );
        for words in [
            "\\-\\-module\\-url",
            "istio\\-envoy\\-filter",
            "EXIT STATUS",
            "sysexits",
        ] {
            assert_eq!(page.contains(words), words != "sysexits", "{words}: {page}");
        }
        assert!(read("kerbridge.1").contains("kerbridge\\-policy(1)"));
        let written = fs::read_dir(folder.path()).unwrap().count();
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        assert!(written > 25 && written == all(&command).len(), "{written}");
    }
}
