//! Finds MIT's `libgssapi_krb5` and `libkrb5`: by `krb5-config`, else by `pkg-config`, else where the linker looks by itself.
//!
//! The library's name is MIT's own (Heimdal's is `libgssapi`), so that a wrong implementation cannot be linked by chance.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=PATH");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    let flags = output("krb5-config", &["--libs", "gssapi"])
        .filter(|flags| flags.contains("-lgssapi_krb5"))
        .or_else(|| output("pkg-config", &["--libs", "mit-krb5-gssapi"]))
        .unwrap_or_default();
    for folder in flags.split_whitespace().filter_map(|flag| flag.strip_prefix("-L")) {
        println!("cargo:rustc-link-search=native={folder}");
    }
    println!("cargo:rustc-link-lib=dylib=gssapi_krb5");
    println!("cargo:rustc-link-lib=dylib=krb5");
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    if !output.status.success() {
        return None;
    }
    String::from_utf8(output.stdout).ok()
}
