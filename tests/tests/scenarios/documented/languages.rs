//! Blocks that are neither commands nor configuration: what a client, a database or a page is told.

use std::path::Path;
use std::process::Command;

use kerbridge_tests::World;
use kerbridge_tests::document::{blocks, pages, text_of};
use kerbridge_tests::postgres::Postgres;
use kerbridge_tests::shipped::repository;
use serde_json::Value;

/// The blocks of a language, each with its page.
fn written_in(language: &str) -> Vec<(String, String)> {
    let all = pages().into_iter().flat_map(|page| {
        let blocks = blocks(&text_of(&page));
        blocks.into_iter().map(move |block| (page.display().to_string(), block))
    });
    let found: Vec<_> = all
        .filter(|(_, block)| block.info == language)
        .map(|(page, block)| (page, block.text))
        .collect();
    assert!(!found.is_empty(), "{language}");
    found
}

#[test]
fn every_sql_of_the_documents_is_taken_by_a_server() {
    let server = Postgres::start().unwrap();
    // The server's own role of that name is the tests'.
    for (page, sql) in written_in("sql") {
        let sql = sql.replace("kerbridge", "as_documented");
        for statement in sql.split_inclusive(';').map(str::trim).filter(|one| !one.is_empty()) {
            server
                .sql("postgres", statement)
                .unwrap_or_else(|error| panic!("{page}: {error}"));
        }
        let owner =
            "SELECT rolname FROM pg_database JOIN pg_roles ON pg_roles.oid = datdba WHERE datname = 'as_documented'";
        assert_eq!(server.sql("postgres", owner).unwrap().trim(), "as_documented", "{page}");
    }
}

#[test]
fn every_json_of_the_documents_is_what_is_rendered() {
    let mut world = World::start().unwrap();
    let config = world.broker().config();
    let output = Command::new(kerbridge_tests::broker::find_kerbridge().unwrap())
        .args(["policy", "render", "--format", "json", "--config"])
        .arg(config)
        .output()
        .unwrap();
    let rendered: Value = serde_json::from_slice(&output.stdout).unwrap();
    let issuer = rendered["issuers"][0].as_object().unwrap();
    for (page, text) in written_in("json") {
        let shown: Value = serde_json::from_str(&format!("{{{text}}}")).unwrap();
        for (name, value) in shown.as_object().unwrap() {
            for (member, value) in value.as_object().unwrap() {
                assert_eq!(&issuer[name][member], value, "{page}: {name}.{member}");
            }
        }
    }
}

#[test]
fn every_form_of_the_documents_is_that_of_the_filters_own_page() {
    let world = World::builder()
        .filter(|filter| {
            filter["routes"][1]["accept"] = serde_json::json!(["negotiate", "cookie"]);
            filter["routes"][1]["deliver"] = "cookie".into();
        })
        .start()
        .unwrap();
    let page = world
        .curl("/.kerbridge/logout")
        .header("accept: text/html")
        .send()
        .unwrap();
    assert_eq!(page.status, 200, "{}", page.text());
    for (document, form) in written_in("html") {
        let opening = form.split_inclusive('>').next().unwrap();
        assert!(
            page.text().contains(opening),
            "{document}: {opening} in {}",
            page.text()
        );
    }
}

#[test]
fn every_python_of_the_documents_stands_in_the_client_that_is_run() {
    let client = std::fs::read_to_string(Path::new(&repository()).join("tests/clients/authlib_client.py")).unwrap();
    let calls = |text: &str| -> Vec<String> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'));
        words
            .filter(|word| word.contains('_') || word.contains('.'))
            .map(str::to_owned)
            .collect()
    };
    let known = calls(&client).join(" ");
    for (page, text) in written_in("python") {
        let checked = Command::new("python3")
            .args(["-c", "import ast, sys; ast.parse(sys.argv[1])", &text])
            .status()
            .unwrap();
        assert!(checked.success(), "{page}: {text}");
        let code = text
            .lines()
            .filter(|line| !line.contains("http"))
            .collect::<Vec<_>>()
            .join("\n");
        for call in calls(&code) {
            let name = call.rsplit('.').next().unwrap();
            assert!(known.contains(name), "{page}: {call} is not in the client");
        }
    }
}
