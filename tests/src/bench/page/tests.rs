use super::super::delegation::tests::delegation_run_of;
use super::super::exchange::Mark;
use super::super::exchange::tests::exchange_run_of;
use super::super::record::tests::{measured, run_of};
use super::super::record::{EnvoyCurve, EnvoyPoint};
use super::*;

fn run() -> Run {
    let mut run = run_of(&[
        (Candidate::Bare, 30.0, 30_000),
        (Candidate::KerbridgeWarmEs256, 45.0, 22_000),
    ]);
    run.curves.push(EnvoyCurve {
        dimension: "rules".into(),
        points: vec![EnvoyPoint {
            size: 1000,
            measured: measured(&[46.0], 21_000),
        }],
    });
    run
}

#[test]
fn figures_replace_figures_and_prose_stays() {
    let document = "Prose.\n\n<!-- bench:goals -->\nold\n<!-- /bench:goals -->\nMore prose.\n";
    let once = replace(document, "goals", "new\n").unwrap();
    assert_eq!(once, document.replace("old", "new"));
    assert_eq!(replace(&once, "goals", "new\n").unwrap(), once);
}

#[test]
fn a_document_without_the_marks_is_left_alone() {
    let twice = "<!-- bench:a -->\n<!-- /bench:a -->\n".repeat(2);
    for document in [
        "",
        "<!-- bench:a -->\n",
        "<!-- /bench:a -->\n<!-- bench:a -->\n",
        twice.as_str(),
    ] {
        assert!(replace(document, "a", "").is_err(), "{document}");
    }
}

#[test]
fn the_table_says_what_a_request_costs_over_bare_envoy() {
    let table = setups(&run());
    assert!(
        table.contains("| **kerbridge, cached, ES256** | 45.0 | 45.0 | 15.0 | 1.50 | 22,000 | 500 | 900 | 48 |"),
        "{table}"
    );
    assert!(curves(&run()).contains("| rules | 1,000 | 46.0 |"));
}

#[test]
fn the_table_of_ways_says_who_used_what() {
    let run = delegation_run_of(&[(Way::RawLoop, 45.0, 10_000), (Way::Kerbridge, 250.0, 2_000)]);
    let table = super::delegation(&run);
    assert!(
        table.contains(
            "| **a token, through Envoy to the same Apache** | 250.0 | 250.0 |  | 250 |  |  | 0 | 2,000 | 500 |"
        ),
        "{table}"
    );
    assert!(
        table.contains("no service | 45.0 | 45.0 |  | 45 |  |  | 0 | 10,000 |  |  |  |"),
        "{table}"
    );
    let document = std::fs::read_to_string(repository().join(FILE)).unwrap();
    assert!(
        replace(&document, "delegation", &table)
            .unwrap()
            .contains("through Envoy")
    );
}

fn exchange() -> ExchangeRun {
    let mut run = exchange_run_of(&[(Acceptor::RawLoop, 70.0, 12_000), (Acceptor::Kerbridge, 140.0, 6_000)]);
    let marks = vec![Mark {
        exchanges: 200_000,
        resident_kib: 16_384,
    }];
    run.memory = [true, false]
        .map(|store| Watched {
            store,
            marks: marks.clone(),
        })
        .to_vec();
    run
}

#[test]
fn the_tables_of_exchanges_say_costs_and_memory() {
    let table = exchanges(&exchange());
    assert!(
        table.contains("| **kerbridge** | 140.0 | 140.0 | 2.00 | 6,000 | 500 | 900 | 48 |"),
        "{table}"
    );
    assert_eq!(
        memory(&exchange()),
        "| exchanges since the start | MiB | of these its table of used tags | MiB without the replay store |\n\
         |--:|--:|--:|--:|\n\
         | 200,000 | 16.0 | 4.2 | 16.0 |\n"
    );
}

#[test]
fn the_document_of_the_repository_has_every_mark() {
    let document = std::fs::read_to_string(repository().join(FILE)).unwrap();
    let growth = Growth {
        tool: "a counter".into(),
        curves: Vec::new(),
    };
    let filled = fill(&document, Some(&run()), Some(&growth), Some(&exchange())).unwrap();
    assert!(filled.contains("counted by a counter") && filled.contains("Measured on Example"));
    assert!(filled.contains("| **kerbridge** |") && filled.contains("| 200,000 |"));
}
