//! `include/elixirscope.h` is generated from `src/capi` and the table of statuses, and checked in.
//!
//! `ESCOPE_HEADER=write cargo test --test header` writes it; without the variable the test fails when the
//! file is not what would be written.

#![cfg(all(feature = "capi", not(escope_model)))]

use std::fmt::Write;
use std::path::PathBuf;

use elixirscope::capi::version::{ABI_VERSION, VERSION_PARTS, escope_version_number};
use elixirscope::status::Status;

/// Sections in reading order: title, and the file whose items it holds.
const SECTIONS: [(&str, &str); 30] = [
    ("Status", "status"),
    ("Version and clock", "version"),
    ("Circuit breaker: options", "breaker/options"),
    ("Circuit breaker: permits", "breaker/permit"),
    ("Circuit breaker: events", "breaker/event"),
    ("Circuit breaker", "breaker"),
    ("Circuit breaker: calls", "breaker/calls"),
    ("Circuit breaker: in charge", "breaker/admin"),
    ("Circuit breaker: statistics", "breaker/stats"),
    ("Circuit breaker: fault injection", "breaker/faults"),
    ("Rate limiter: options", "limiter/options"),
    ("Rate limiter: rules", "limiter/rule"),
    ("Rate limiter: decisions", "limiter/decision"),
    ("Rate limiter", "limiter"),
    ("Rate limiter: limits with a name", "limiter/limit"),
    ("Rate limiter: checks", "limiter/check"),
    ("Rate limiter: many keys in one call", "limiter/group"),
    ("Rate limiter: receipts", "limiter/receipt"),
    ("Rate limiter: reservations", "limiter/reserve"),
    ("Rate limiter: waiting", "limiter/wait"),
    ("Rate limiter: header fields", "limiter/header_fields"),
    ("Rate limiter: statistics", "limiter/stats"),
    ("Rate limiter: in a file", "limiter/file"),
    ("Connection pool: callbacks", "pool/callbacks"),
    ("Connection pool: options", "pool/options"),
    ("Connection pool", "pool"),
    ("Connection pool: check-out and check-in", "pool/calls"),
    ("Connection pool: waiting in slices or in an event loop", "pool/waiter"),
    ("Connection pool: in charge", "pool/admin"),
    ("Connection pool: statistics", "pool/stats"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_checked_in_header_is_the_generated_one() {
    let path = root().join("include/elixirscope.h");
    let generated = generate();
    if std::env::var_os("ESCOPE_HEADER").is_some_and(|value| value == "write") {
        std::fs::write(&path, &generated).expect("the header can be written");
        return;
    }
    let checked_in = std::fs::read_to_string(&path).expect("the header is checked in");
    let line = generated.lines().zip(checked_in.lines()).position(|(new, old)| new != old);
    assert!(
        generated == checked_in,
        "include/elixirscope.h is stale from line {} on; `make header` writes it",
        line.map_or(generated.lines().count().min(checked_in.lines().count()), |line| line) + 1
    );
}

#[test]
fn the_composed_version_is_the_packages() {
    let [major, minor, patch] = VERSION_PARTS;
    assert_eq!(format!("{major}.{minor}.{patch}"), elixirscope::VERSION);
    assert_eq!(escope_version_number(), major * 10_000 + minor * 100 + patch);
}

fn generate() -> String {
    let [major, minor, patch] = VERSION_PARTS;
    let mut header = String::new();
    let mut line = |text: &str| {
        header.push_str(text);
        header.push('\n');
    };
    line("/* Generated from src/capi by `make header`. Do not edit. SPDX-License-Identifier: Apache-2.0 */");
    line("");
    line(preface().trim_end());
    line("");
    line("#ifndef ELIXIRSCOPE_H\n#define ELIXIRSCOPE_H\n");
    line("#include <stddef.h>\n#include <stdint.h>\n");
    line(&format!("#define ESCOPE_VERSION_MAJOR {major}"));
    line(&format!("#define ESCOPE_VERSION_MINOR {minor}"));
    line(&format!("#define ESCOPE_VERSION_PATCH {patch}"));
    line("#define ESCOPE_VERSION_NUMBER \\");
    line("    (ESCOPE_VERSION_MAJOR * 10000 + ESCOPE_VERSION_MINOR * 100 + ESCOPE_VERSION_PATCH)");
    line(&format!("#define ESCOPE_VERSION_STRING \"{}\"", elixirscope::VERSION));
    line("/** Version of the ABI that this header describes. */");
    line(&format!("#define ESCOPE_ABI_VERSION {ABI_VERSION}"));
    line("");
    line("#ifdef __cplusplus\nextern \"C\" {\n#endif");
    for (title, file) in SECTIONS {
        let rule = "-".repeat(100 - title.len());
        line(&format!("\n/* -- {title} {rule} */\n"));
        if file == "status" {
            line(&statuses());
        }
        line(section(file).trim());
    }
    line("\n#ifdef __cplusplus\n}\n#endif\n");
    line("#endif /* ELIXIRSCOPE_H */");
    header
}

fn preface() -> String {
    std::fs::read_to_string(root().join("src/capi/preface.txt")).expect("the page on the model is checked in")
}

/// The statuses as C constants, from the table itself.
fn statuses() -> String {
    let mut text = String::from("enum {\n");
    for status in Status::ALL {
        let (word, code) = (status.word().to_uppercase(), *status as i32);
        write!(text, "    /** {} */\n    ESCOPE_STATUS_{word} = {code},\n", status.text())
            .expect("a string grows");
    }
    text.push_str("};\n");
    text
}

/// What cbindgen makes of one file. A file at a time keeps the source's order: types and functions of a
/// primitive together.
fn section(file: &str) -> String {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).expect("the settings are valid");
    let source = root().join("src/capi").join(format!("{file}.rs"));
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(source)
        .generate()
        .unwrap_or_else(|error| panic!("cbindgen reads `{file}`: {error}"));
    let mut text = Vec::new();
    bindings.write(&mut text);
    short_comments(&String::from_utf8(text).expect("cbindgen writes UTF-8"))
}

/// Puts a comment of one line on one line.
fn short_comments(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut short = String::new();
    let mut at = 0;
    while at < lines.len() {
        let indent = lines[at].len() - lines[at].trim_start().len();
        match lines[at..] {
            [open, body, close, ..] if open.trim() == "/**" && close.trim() == "*/" => {
                let body = body.trim_start().trim_start_matches("* ");
                writeln!(short, "{:indent$}/** {body} */", "").expect("a string grows");
                at += 3;
            }
            _ => {
                writeln!(short, "{}", lines[at]).expect("a string grows");
                at += 1;
            }
        }
    }
    short
}
