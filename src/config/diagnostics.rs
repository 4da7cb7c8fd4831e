//! Problems in a configuration file: where they are, what is right, how they are shown.
//!
//! Owns [`Problem`], [`Problems`] and the collecting [`Report`]. Never decides what is wrong. Every
//! span of a [`Problems`] lies inside of its text and on character boundaries, so that rendering
//! cannot fail whatever the file holds.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// A byte range of the configuration text.
pub type Span = Range<usize>;

/// One thing that is wrong, or worth a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where; absent when there is no text to point at (the file could not be read).
    pub span: Option<Span>,
    /// What is wrong, one sentence.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// The second place that is part of the problem, and what it is.
    pub also: Option<(Span, String)>,
    pub(super) certainty: Certainty,
}

/// Whether a problem can be believed when the file has syntax errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certainty {
    /// It is in the value itself.
    Local,
    /// It may only be there because the syntax error hid another part of the file.
    NeedsWholeFile,
}

impl Problem {
    pub(super) fn at(span: Span, message: impl Into<String>) -> Self {
        Self {
            span: Some(span),
            message: message.into(),
            help: None,
            also: None,
            certainty: Certainty::Local,
        }
    }

    pub(super) fn without_text(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            span: None,
            message: message.into(),
            help: Some(help.into()),
            also: None,
            certainty: Certainty::Local,
        }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn also(mut self, span: Span, label: impl Into<String>) -> Self {
        self.also = Some((span, label.into()));
        self
    }

    pub(super) fn needs_whole_file(mut self) -> Self {
        self.certainty = Certainty::NeedsWholeFile;
        self
    }
}

/// Collects problems while a file is read; reading goes on after each of them.
#[derive(Debug, Default)]
pub(super) struct Report {
    errors: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl Report {
    pub(super) fn error(&self, problem: Problem) {
        self.errors.borrow_mut().push(problem);
    }

    pub(super) fn warning(&self, problem: Problem) {
        self.warnings.borrow_mut().push(problem);
    }

    /// Errors and warnings, in the order they were found.
    pub(super) fn into_parts(self) -> (Vec<Problem>, Vec<Problem>) {
        (self.errors.into_inner(), self.warnings.into_inner())
    }
}

/// How [`Problems::render`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text only: for files, pipes and logs.
    Plain,
    /// With ANSI colours: for a terminal.
    Colour,
}

/// What the problems of one list are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, and something in it is worth a second look.
    Warning,
}

/// Problems of one file, in the order of the file.
#[derive(Clone, PartialEq, Eq)]
pub struct Problems {
    file: String,
    text: String,
    lines: Lines,
    severity: Severity,
    list: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(file: &str, text: &str, severity: Severity, mut list: Vec<Problem>) -> Self {
        for problem in &mut list {
            problem.span = problem.span.take().map(|span| clamp(text, &span));
            problem.also = problem.also.take().map(|(span, label)| (clamp(text, &span), label));
        }
        list.sort_by_key(|problem| problem.span.as_ref().map(|span| (span.start, span.end)));
        list.dedup();
        let lines = Lines::of(text);
        Self { file: file.to_owned(), text: text.to_owned(), lines, severity, list }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The problems, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// Whether these are errors or warnings.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// Line and column of a problem, both from 1, the column in characters; (1, 1) for a problem
    /// without a place.
    pub fn position(&self, problem: &Problem) -> (usize, usize) {
        let Some(span) = &problem.span else { return (1, 1) };
        let before = self.text.get(self.lines.start(span.start)..span.start).unwrap_or_default();
        (self.lines.line(span.start), before.chars().count() + 1)
    }

    /// Every problem with its lines of the file, a caret, and the remedy.
    pub fn render(&self, style: Style) -> String {
        let renderer = match style {
            Style::Plain => Renderer::plain(),
            Style::Colour => Renderer::styled(),
        };
        let mut out = String::new();
        for problem in &self.list {
            out.push_str(renderer.render(&[self.group(problem)]).trim_end());
            out.push_str("\n\n");
        }
        out.truncate(out.trim_end().len());
        if !out.is_empty() {
            out.push('\n');
        }
        out
    }

    /// `[{"file", "line", "column", "message", "help"}]`; `help` may be null.
    pub fn to_json(&self) -> serde_json::Value {
        let rows = self.list.iter().map(|problem| {
            let (line, column) = self.position(problem);
            serde_json::json!({
                "file": self.file,
                "line": line,
                "column": column,
                "message": problem.message,
                "help": problem.help,
            })
        });
        rows.collect()
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = level.primary_title(problem.message.as_str()).elements(
            // Without a span there is only a file to name.
            problem.span.is_none().then(|| Origin::path(self.file.as_str())),
        );
        if let Some(span) = &problem.span {
            group = group.element(self.snippet(span, problem.also.as_ref()));
        }
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        group
    }

    /// Only the lines between the places are handed over: the renderer indexes all it is given, once
    /// per problem.
    fn snippet<'a>(
        &'a self,
        span: &Span,
        also: Option<&'a (Span, String)>,
    ) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let first = also.map_or(span.start, |(second, _)| span.start.min(second.start));
        let last = also.map_or(span.end, |(second, _)| span.end.max(second.end));
        let from = self.lines.start(first);
        let rest = self.text.get(last..).unwrap_or_default();
        let to = rest.find('\n').map_or(self.text.len(), |at| last + at + 1);
        let lines = self.text.get(from..to).unwrap_or_default();
        let shift = |span: &Span| span.start - from..span.end - from;
        let primary = AnnotationKind::Primary.span(shift(span));
        let second = also.map(|(second, label)| {
            AnnotationKind::Context.span(shift(second)).label(label.as_str())
        });
        Snippet::source(lines)
            .path(self.file.as_str())
            .line_start(self.lines.line(from))
            .annotation(primary)
            .annotations(second)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

/// As rendered: what `expect` and failing tests print must be readable.
impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

impl std::error::Error for Problems {}

/// Where lines begin: a file of nothing but mistakes is still judged in linear time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        let after = text.bytes().zip(1..).filter(|(byte, _)| *byte == b'\n');
        Self(std::iter::once(0).chain(after.map(|(_, next)| next)).collect())
    }

    /// The line of a byte offset, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }

    /// Where that line begins.
    pub(super) fn start(&self, offset: usize) -> usize {
        self.0.get(self.line(offset).saturating_sub(1)).copied().unwrap_or_default()
    }
}

fn clamp(text: &str, span: &Span) -> Span {
    let start = text.floor_char_boundary(span.start);
    let end = text.ceil_char_boundary(span.end.min(text.len())).max(start);
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::reversed_empty_ranges)]
    fn no_place_is_outside_of_the_text() {
        let text = "a = \"ä\"\n";
        for span in [0..100, 50..60, 6..6, 6..7, 5..6, 9..3, usize::MAX..0, 0..usize::MAX] {
            let problem = Problem::at(span.clone(), "wrong").also(span.clone(), "here");
            let problems = Problems::new("f", text, Severity::Error, vec![problem]);
            for problem in problems.iter() {
                let place = problem.span.clone().expect("a place");
                assert!(text.get(place.clone()).is_some(), "{span:?} became {place:?}");
            }
            assert!(problems.render(Style::Plain).contains("wrong"));
            assert!(problems.render(Style::Colour).contains("wrong"));
        }
    }

    #[test]
    fn one_mistake_is_told_once_and_in_the_files_order() {
        let list = vec![Problem::at(4..5, "b"), Problem::at(0..1, "a"), Problem::at(4..5, "b")];
        let problems = Problems::new("f", "a = 1\n", Severity::Warning, list);
        let messages: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(messages, ["a", "b"]);
        assert!(problems.to_string().starts_with("warning: a"));
    }
}
