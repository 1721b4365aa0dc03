//! Pages about the lab that `make lab-up` leaves running, with the variables that it prints.

use std::path::PathBuf;
use std::process::Command;

use kerbridge_tests::HarnessError;
use kerbridge_tests::document::{Block, Reader, pages_in, walk};
use kerbridge_tests::world::lab_program;

/// A lab in the background, which is taken down even where the test fails.
struct Background(PathBuf);

impl Background {
    fn run(&self, command: &str) -> String {
        let output = Command::new(lab_program().unwrap())
            .args([command, "--state"])
            .arg(&self.0)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.run("down");
    }
}

/// The variables in what the lab says to type: `export NAME=VALUE`, and `CA=… URL=… APACHE=…`. Alice's tickets come first.
fn variables(said: &str) -> Vec<(String, String)> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    };
    let words = said.split_whitespace().filter_map(|word| word.split_once('='));
    let mut found: Vec<(String, String)> = Vec::new();
    for (name, value) in words {
        let is_new = found.iter().all(|(known, _)| known != name);
        if is_name(name) && is_new && !value.starts_with('$') {
            found.push((name.to_owned(), value.to_owned()));
        }
    }
    found
}

#[test]
fn every_step_in_a_lab_that_is_up_does_what_it_says() {
    for (page, blocks) in pages_in(&["up"]) {
        let folder = tempfile::tempdir().unwrap();
        let lab = Background(folder.path().to_owned());
        let said = lab.run("up");
        assert!(said.starts_with("The lab is up."), "{said}");
        let mut reader = Reader::new(folder.path()).unwrap();
        reader.set_all(variables(&said));
        reader.read_as(
            "make lab-down",
            format!("kerbridge-lab down --state {}", folder.path().display()),
        );
        let before = |_: &mut Reader, _: &Block| Ok::<_, HarnessError>(());
        let printed = walk(&mut reader, &blocks, &["up"], folder.path(), before);
        let printed = printed
            .unwrap_or_else(|error| panic!("{}: {error}", page.display()))
            .concat();
        // What the comments behind the lines say, in their order.
        let said: Vec<String> = blocks
            .iter()
            .filter(|block| block.lab() == Some("up"))
            .flat_map(Block::commands)
            .filter(|line| line.starts_with("curl "))
            .filter_map(|line| Some(line.rsplit_once(" # ")?.1.to_owned()))
            .collect();
        // An answer's body may end without a line's end.
        let heads = printed.split("HTTP/").filter(|head| head.starts_with(['1', '2']));
        let seen: Vec<&str> = heads.filter_map(|head| head.split([' ', '\r']).nth(1)).collect();
        assert_eq!(said.len(), seen.len(), "{}: {printed}", page.display());
        for (said, seen) in said.iter().zip(seen) {
            assert!(
                said.contains(seen),
                "{}: {said}, and it was {seen}: {printed}",
                page.display()
            );
        }
        assert!(printed.contains("alice@LAB.TEST"), "{printed}");
    }
}
