//! Has a program see another time than this machine's.

/// The library of the package `faketime`, by the name that its wrapper gives the dynamic linker.
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketime.so.1";

/// A command before a program that becomes that program, for which it is so much later: `+10m`; `-10m` is earlier.
///
/// The package's wrapper stays the program's parent, hands no signal on and leaves semaphores by its process number, over which a
/// later one of that number falls.
#[must_use]
pub fn by(offset: &str) -> [String; 3] {
    [
        "env".to_owned(),
        format!("LD_PRELOAD={LIBRARY}"),
        format!("FAKETIME={offset}"),
    ]
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::token::now;

    #[test]
    fn a_program_sees_the_time_that_it_is_told() {
        let [env, library, offset] = by("+10m");
        let output = Command::new(env)
            .args([&library, &offset])
            .args(["date", "+%s"])
            .output()
            .unwrap();
        let seen: u64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        assert!((598..=602).contains(&(seen - now())), "{seen}");
    }
}
