//! The site's configuration: TOML text to [`Site`], with every problem found in one run.
//!
//! Owns the file format and its diagnostics. Never touches the network or the kernel: a
//! configuration is checked on any machine. A [`Site`] that comes from [`load`] or [`parse`] is
//! valid.

mod diagnostics;
mod dns;
mod reader;
mod sections;
mod site;
mod suggest;
mod values;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use toml::de::DeTable;

pub use diagnostics::{Problem, Problems, Severity, Span, Style};
pub use dns::{Dns, DnsForward, ForeignDns, LanDns, OtherNames};
pub use site::*;

use diagnostics::{Certainty, Lines, Report};
use reader::Table;
use sections::Draft;

/// A valid configuration and what is worth a second look in it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub site: Site,
    /// Warnings; often empty.
    pub warnings: Problems,
}

/// Reads a configuration file.
///
/// # Errors
/// Everything that is wrong with it; one problem without text where it cannot be read at all.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let name = path.display().to_string();
    let unreadable = |message: String, help: &str| {
        let problem = Problem::without_text(message, help);
        Problems::new(&name, "", Severity::Error, vec![problem])
    };
    let bytes = read(path).map_err(|error| {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => "create it, or name another file",
            std::io::ErrorKind::PermissionDenied => "make it readable for the user of this command",
            std::io::ErrorKind::IsADirectory => "name the file in it",
            _ => "make sure that it is a readable file",
        };
        unreadable(format!("the configuration file cannot be read: {error}"), help)
    })?;
    if bytes.len() > LARGEST_FILE {
        let what = format!("the configuration file has more than {LARGEST_FILE} bytes");
        return Err(unreadable(what, "make sure that it is the right file"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let lines = error.as_bytes().iter().take(valid).filter(|b| **b == b'\n').count();
        let what = format!("the configuration file is not UTF-8 text: see line {}", lines + 1);
        unreadable(what, "save it as UTF-8")
    })?;
    parse(&text, &name)
}

/// Reads configuration text; `file_name` is for messages only.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, file_name: &str) -> Result<Loaded, Problems> {
    let report = Report::default();
    let (document, syntax) = DeTable::parse_recoverable(text);
    let end = text.trim_end().len();
    let root = Table::root(document.get_ref(), end..end, &report);
    let lines = Lines::of(text);
    let draft = Draft::read(root, &lines, &report);
    let (mut errors, warnings) = report.into_parts();
    if !syntax.is_empty() {
        errors = with_syntax_errors(text, &lines, &syntax, errors);
    }
    let problems = |errors| Problems::new(file_name, text, Severity::Error, errors);
    if !errors.is_empty() {
        return Err(problems(errors));
    }
    let Some(site) = draft.finish(hash(text.as_bytes())) else {
        // Fails closed: a part is missing and no check has said so.
        let what = "the configuration is incomplete, and no check says why";
        let problem = Problem::without_text(what, "please report this file as a defect");
        return Err(problems(vec![problem]));
    };
    let warnings = Problems::new(file_name, text, Severity::Warning, warnings);
    Ok(Loaded { site, warnings })
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(LARGEST_FILE).unwrap_or(u64::MAX).saturating_add(1);
    // A device file would never end.
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The syntax errors, and of the others those that are true whatever the syntax errors hide.
fn with_syntax_errors(
    text: &str,
    lines: &Lines,
    syntax: &[toml::de::Error],
    errors: Vec<Problem>,
) -> Vec<Problem> {
    let mut all = syntax_errors(text, lines, syntax);
    let readable = all.iter().filter(|problem| problem.message == UNCLOSED_LIST);
    let readable = readable.filter_map(|problem| problem.span.as_ref()).map(|span| span.start);
    let readable = readable.min().unwrap_or(text.len());
    let line = |problem: &Problem| problem.span.as_ref().map(|span| lines.line(span.start));
    let broken: HashSet<_> = all.iter().map(line).collect();
    let sure = errors.into_iter().filter(|problem| {
        problem.certainty == Certainty::Local
            && !broken.contains(&line(problem))
            && problem.span.as_ref().is_some_and(|span| span.start < readable)
    });
    all.extend(sure);
    all
}

/// One problem for each line that cannot be read. A list that is not closed takes in the rest of the
/// file, and what the parser says about that rest is noise: the list is named, and nothing after it.
fn syntax_errors(text: &str, lines: &Lines, syntax: &[toml::de::Error]) -> Vec<Problem> {
    let start = |error: &toml::de::Error| error.span().map_or(text.len(), |span| span.start);
    let mut sorted: Vec<_> = syntax.iter().collect();
    sorted.sort_by_key(|error| start(error));
    let unclosed = sorted.iter().any(|error| error.message().contains("unclosed array"));
    let mut problems = Vec::new();
    let mut last_line = 0;
    for error in sorted {
        let line = lines.line(start(error));
        let first = start(error) == lines.start(start(error));
        if line == last_line {
            continue;
        }
        last_line = line;
        let swallows = error.message().contains("missing comma between array elements");
        if unclosed && swallows && first {
            let span = error.span().unwrap_or(text.len()..text.len());
            let problem = Problem::at(span, UNCLOSED_LIST);
            problems.push(problem.help("end it with `]`; the rest of the file is read after that"));
            break;
        }
        problems.push(syntax_error(text, error));
    }
    problems
}

fn syntax_error(text: &str, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(text.len()..text.len());
    let word = text.get(span.clone()).unwrap_or_default().trim();
    let message = error.message();
    // The parser guesses from the first letter what a bare word was to be.
    let guess = ["must be quoted", "invalid float", "invalid boolean"];
    let bare = guess.iter().any(|part| message.contains(part));
    if bare && word.is_empty() {
        return Problem::at(span, "the value is missing").help("write one, or remove the key");
    }
    if bare && word.starts_with(char::is_alphabetic) {
        let what = format!("`{}` is not in quotes", values::shown(word));
        return Problem::at(span, what).help("put text in double quotes");
    }
    let help = if message.contains("duplicate key") {
        "a key may stand once in a table, and a [table] once in the file: merge the two"
    } else if message.contains("basic string") {
        "end the text with a double quote, on the same line; write a backslash as \\\\"
    } else if message.contains("unclosed table") {
        "end the table's header with `]`"
    } else {
        "write key = value, with text in quotes and lists in brackets"
    };
    Problem::at(span, message).help(help)
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

const UNCLOSED_LIST: &str = "the list before this line is not closed";
/// Far more than any site writes.
const LARGEST_FILE: usize = 4 << 20;
