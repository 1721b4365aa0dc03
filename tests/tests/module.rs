//! Checks what the module asks of its host: one import that Envoy does not register, and the module does not load.
//!
//! The import section is read by hand (WebAssembly core specification 2.0, §5.5.5): a few dozen lines against a
//! dependency of many thousand.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kerbridge_tests::shipped::{TRAP_HEADER, module_that_traps};

/// One megabyte: what a proxy fetches, holds and compiles for each worker.
const SIZE_LIMIT: usize = 1_000_000;

/// Of each imported function, its module and its name, joined by a space.
type Imports = BTreeSet<String>;

fn module_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/wasm32-wasip1/release/kerbridge_filter.wasm")
}

fn allowed() -> Imports {
    include_str!("../module-imports.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// Reads a module from its front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// An unsigned LEB128 of at most 32 bits.
    fn number(&mut self) -> Option<usize> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn name(&mut self) -> Option<&'a str> {
        let length = self.number()?;
        str::from_utf8(self.take(length)?).ok()
    }

    fn limits(&mut self) -> Option<()> {
        let has_maximum = self.byte()? & 1 == 1;
        self.number()?;
        if has_maximum {
            self.number()?;
        }
        Some(())
    }
}

/// The imports of a module; `None` where the bytes are not one.
fn imports(module: &[u8]) -> Option<Imports> {
    let mut reader = Reader(module);
    if reader.take(8)? != b"\0asm\x01\0\0\0" {
        return None;
    }
    let mut found = Imports::new();
    while !reader.0.is_empty() {
        let section = reader.byte()?;
        let length = reader.number()?;
        let mut body = Reader(reader.take(length)?);
        if section != 2 {
            continue;
        }
        for _ in 0..body.number()? {
            found.insert(format!("{} {}", body.name()?, body.name()?));
            match body.byte()? {
                0 => _ = body.number()?, // a function: its type
                1 => {
                    body.byte()?; // a table: its element type
                    body.limits()?;
                }
                2 => body.limits()?,    // a memory
                3 => _ = body.take(2)?, // a global: its type, whether it can change
                _ => return None,
            }
        }
    }
    Some(found)
}

/// The functions that a module exports, by name; `None` where the bytes are not one.
fn exports(module: &[u8]) -> Option<BTreeSet<String>> {
    let mut reader = Reader(module);
    if reader.take(8)? != b"\0asm\x01\0\0\0" {
        return None;
    }
    let mut found = BTreeSet::new();
    while !reader.0.is_empty() {
        let section = reader.byte()?;
        let length = reader.number()?;
        let mut body = Reader(reader.take(length)?);
        if section != 7 {
            continue;
        }
        for _ in 0..body.number()? {
            let name = body.name()?.to_owned();
            if body.byte()? == 0 {
                found.insert(name);
            }
            body.number()?;
        }
    }
    Some(found)
}

/// What the SDK brings and the filter never uses: other protocols, queues, functions of other modules, and edits of what it
/// leaves alone.
fn is_unused(name: &str) -> bool {
    let parts = [
        "grpc",
        "queue",
        "downstream",
        "upstream",
        "new_connection",
        "on_foreign_function",
    ];
    let whole = ["proxy_done", "proxy_set_buffer_bytes", "proxy_set_header_map_pairs"];
    parts.iter().any(|part| name.contains(part)) || whole.contains(&name)
}

#[test]
fn the_doctor_asks_for_the_capabilities_that_the_module_has_a_use_for() {
    let module = std::fs::read(module_path()).expect("run `make build`");
    let imported = imports(&module).expect("a module").into_iter();
    let imported = imported.filter_map(|import| Some(import.split_once(' ')?.1.to_owned()));
    let called = exports(&module).expect("a module").into_iter();
    let called = called.filter(|name| name.starts_with("proxy_on_"));
    let used: BTreeSet<String> = imported.chain(called).filter(|name| !is_unused(name)).collect();
    let asked: BTreeSet<String> = include_str!("../../broker/src/doctor/envoy/capabilities.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    assert_eq!(asked, used);
}

#[test]
fn the_module_imports_only_what_envoy_registers() {
    let path = module_path();
    let module = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run `make build`", path.display()));
    let found = imports(&module).expect("not a WebAssembly module");
    assert!(
        found.contains("env proxy_log"),
        "not a proxy-wasm module: it imports {found:?}"
    );
    let unknown: Vec<_> = found.difference(&allowed()).cloned().collect();
    assert!(
        unknown.is_empty(),
        "Envoy does not register {unknown:?}; which dependency brought them?"
    );
}

#[test]
fn the_module_is_under_one_megabyte() {
    let size = std::fs::read(module_path()).expect("run `make build`").len();
    assert!(size < SIZE_LIMIT, "{size} bytes");
}

#[test]
fn no_request_can_make_the_module_trap_as_tests_make_theirs() {
    let knows_the_header = |path: &Path| {
        let module = std::fs::read(path).expect("run `make build`");
        module
            .windows(TRAP_HEADER.len())
            .any(|bytes| bytes == TRAP_HEADER.as_bytes())
    };
    assert!(knows_the_header(&module_that_traps().expect("a module")));
    assert!(!knows_the_header(&module_path()));
}

#[test]
fn an_import_that_envoy_lacks_is_seen() {
    let module = b"\0asm\x01\0\0\0\
        \x01\x04\x01\x60\0\0\
        \x02\x2c\x02\x03env\x09proxy_log\0\0\x0awasix_32v1\x0dthread_signal\0\0";
    let found = imports(module).expect("a module");
    let allowed = allowed();
    let unknown: Vec<_> = found.difference(&allowed).collect();
    assert_eq!(unknown, ["wasix_32v1 thread_signal"]);
}

#[test]
fn a_truncated_module_is_not_taken_for_one_without_imports() {
    assert_eq!(imports(b"\0asm\x01\0\0\0\x02\x2d\x02\x03env\x09proxy_l"), None);
    assert_eq!(imports(b"not a module"), None);
}
