//! The tables and the JSON document.

use std::fmt::Write;

use serde_json::json;

use crate::figures::{columns, ratio, spread};
use crate::plan::{Subject, Variant, Workload, label};
use crate::rounds::Record;
use crate::targets::{Verdict, measured};

/// Every workload's table, and the verdicts.
pub(crate) fn tables(records: &[Record], verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    for at in measured(records) {
        text.push_str(&table(records, at));
        text.push('\n');
    }
    text.push_str(&judged(verdicts));
    text
}

/// Everything that was measured, for programs.
pub(crate) fn document(rounds: u32, records: &[Record], verdicts: &[Verdict]) -> String {
    let document = json!({ "rounds": rounds, "records": records, "verdicts": verdicts });
    format!("{document:#}\n")
}

fn table(records: &[Record], at: (Variant, Workload)) -> String {
    let columns = columns(at.1);
    let mut rows = vec![heading(at)];
    let mut subjects: Vec<Subject> = records
        .iter()
        .filter(|record| (record.variant, record.workload) == at)
        .map(|record| record.subject)
        .collect();
    subjects.sort_unstable();
    subjects.dedup();
    for subject in subjects {
        let mut row = vec![label(subject)];
        for column in columns {
            let cell = spread(records, at, subject, column.figure)
                .map_or_else(|| "-".to_owned(), |s| format!("{:.*}", column.digits, s.median));
            row.push(cell);
        }
        let first = columns.first().map(|column| column.figure).unwrap_or_default();
        let against = ratio(records, at, subject, first)
            .filter(|_| !matches!(subject, Subject::Ours | Subject::Bare));
        row.push(against.map_or_else(String::new, |r| {
            format!("{:.2} ({:.2}–{:.2})", r.median, r.least, r.most)
        }));
        rows.push(row);
    }
    aligned(&rows)
}

fn heading((variant, workload): (Variant, Workload)) -> Vec<String> {
    let first = format!("{} {}", label(variant), label(workload));
    let columns = columns(workload).iter().map(|column| column.heading.to_owned());
    std::iter::once(first).chain(columns).chain(["ours / this one".to_owned()]).collect()
}

fn judged(verdicts: &[Verdict]) -> String {
    let heading = ["target", "against", "measured", "rounds", "bound", "verdict"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for verdict in verdicts {
        let (least, most) = verdict.between;
        let met = if verdict.met { "met" } else { "MISSED" };
        let note = verdict.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
        rows.push(vec![
            verdict.axis.clone(),
            verdict.against.clone(),
            format!("{:.3}", verdict.measured),
            format!("{least:.3}–{most:.3}"),
            verdict.target.clone(),
            format!("{met}{note}"),
        ]);
    }
    let met = verdicts.iter().filter(|verdict| verdict.met).count();
    let mut text = aligned(&rows);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n{met} of {} targets met", verdicts.len());
    text
}

/// Columns as wide as their widest cell, the first to the left and the others to the right, as long
/// as they hold numbers.
fn aligned(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (place, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a String cannot fail.
            let _ = match place {
                0 => write!(line, "{cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
