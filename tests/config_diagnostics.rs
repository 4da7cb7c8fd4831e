//! What a plant admin reads when the configuration is wrong: compared word for word.
//!
//! `UPDATE_GOLDEN=1 cargo test --test config_diagnostics` writes the files anew; read the difference
//! before it is committed.

#[path = "support/mistakes.rs"]
mod mistakes;

use std::fs;
use std::path::{Path, PathBuf};

use mistakes::TEN_MISTAKES;
use sluicegate::config::{self, Problems, Severity, Style};

#[test]
fn every_golden_file_reads_as_before() {
    let mut compared = 0;
    let mut mistakes = 0;
    let mut differing = Vec::new();
    for path in golden_files() {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a golden file");
        let problems = problems(&text, &name);
        if problems.severity() == Severity::Error {
            mistakes += problems.len();
        }
        let rendered = problems.render(Style::Plain);
        let expected = path.with_extension("stderr");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&expected, &rendered).expect("a golden file is written");
        }
        compared += 1;
        if fs::read_to_string(&expected).unwrap_or_default() != rendered {
            differing.push(format!("{}:\n{rendered}", expected.display()));
        }
    }
    assert!(differing.is_empty(), "not as before:\n{}", differing.join("\n"));
    assert!(compared >= 12, "only {compared} golden files");
    assert!(mistakes >= 100, "only {mistakes} mistakes in the golden files");
}

#[test]
fn every_problem_has_a_place_and_a_remedy() {
    for path in golden_files() {
        let text = fs::read_to_string(&path).expect("a golden file");
        let problems = problems(&text, "sluicegate.toml");
        for problem in problems.iter() {
            assert!(problem.span.is_some(), "{}: {problem:?}", path.display());
            assert!(problem.help.is_some(), "{}: {problem:?}", path.display());
        }
    }
}

#[test]
fn ten_mistakes_are_ten_problems_at_their_places() {
    let problems = config::parse(TEN_MISTAKES, "f.toml").expect_err("ten mistakes");
    let json = problems.to_json();
    let places: Vec<_> = json
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| {
            assert_eq!(row["file"], "f.toml");
            assert!(row["help"].is_string(), "{row}");
            let message = row["message"].as_str().expect("a message");
            (
                row["line"].as_u64().expect("a line"),
                row["column"].as_u64().expect("a column"),
                message,
            )
        })
        .collect();
    let expected = [
        (3, 10, "region"),
        (6, 1, "unknown key `netwoks`"),
        (7, 13, "host bits"),
        (9, 26, "tunnel and a device interface"),
        (10, 7, "out of range"),
        (12, 12, "outside of vpc.networks"),
        (16, 10, "not a host name"),
        (17, 10, "interception"),
        (19, 12, "no endpoint `historien`"),
        (21, 10, "absolute"),
    ];
    assert_eq!(places.len(), expected.len(), "{problems}");
    for ((line, column, message), (at_line, at_column, part)) in places.iter().zip(expected) {
        assert_eq!((*line, *column), (at_line, at_column), "{message}");
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn columns_count_characters() {
    let text = "[devices]\ninterfaces = [\"lanä\", 3] # ü\n";
    let problems = config::parse(text, "f.toml").expect_err("a number");
    let number = problems.iter().find(|p| p.message.contains("whole number")).expect("it");
    assert_eq!(problems.position(number), (2, 23));
}

#[test]
fn colour_is_the_callers_choice() {
    let problems = config::parse("", "f.toml").expect_err("nothing in it");
    assert!(!problems.render(Style::Plain).contains('\u{1b}'));
    assert!(problems.render(Style::Colour).contains('\u{1b}'));
}

#[test]
fn an_unreadable_file_is_a_problem_with_a_remedy() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sluicegate.toml");
    let absent = config::load(&path).expect_err("not there");
    assert!(absent.to_string().contains("cannot be read"), "{absent}");
    assert!(absent.to_string().contains("sluicegate.toml"), "{absent}");

    let folder = config::load(directory.path()).expect_err("a directory");
    assert!(folder.to_string().contains("name the file in it"), "{folder}");

    fs::write(&path, b"[site]\nname = \"\xff\"\n").expect("a file is written");
    let binary = config::load(&path).expect_err("not UTF-8");
    assert!(binary.to_string().contains("see line 2"), "{binary}");

    fs::write(&path, vec![b'#'; (4 << 20) + 1]).expect("a file is written");
    let large = config::load(&path).expect_err("too large");
    assert!(large.to_string().contains("more than"), "{large}");
    for problems in [absent, folder, binary, large] {
        assert_eq!(problems.len(), 1);
        let json = problems.to_json();
        assert_eq!((&json[0]["line"], &json[0]["column"]), (&1.into(), &1.into()));
        assert!(json[0]["help"].is_string());
    }
}

/// The errors of a configuration, or its warnings where it is valid.
fn problems(text: &str, name: &str) -> Problems {
    match config::parse(text, name) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems,
    }
}

fn golden_files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config");
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("the golden files")
        .map(|entry| entry.expect("a golden file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}
