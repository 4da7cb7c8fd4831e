//! Walks a spanned TOML document and reports what it cannot use, without stopping.
//!
//! Owns types and required keys: [`Table`] gives each key once and reports what was never asked for.
//! Never knows what a key means; that is `sections`.

use std::collections::HashMap;
use std::hash::Hash;

use toml::de::{DeTable, DeValue};

use super::diagnostics::{Problem, Report, Span};
use super::suggest;
use super::values::{Fault, shown};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// A list and whether every item of it could be read.
#[derive(Clone, Debug)]
pub(super) struct List<T> {
    pub(super) items: Vec<At<T>>,
    pub(super) state: ListState,
}

/// Whether a list says all that its author meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListState {
    /// Every item was read.
    Whole,
    /// Some were refused, or the key is missing: what is not in the list proves nothing.
    Partial,
}

impl<T> List<T> {
    /// What stands for a list that is not there.
    pub(super) fn missing() -> Self {
        Self { items: Vec::new(), state: ListState::Partial }
    }

    /// The items, if they are all known: the only lists that others may be checked against.
    pub(super) fn whole(&self) -> Option<&[At<T>]> {
        (self.state == ListState::Whole).then_some(self.items.as_slice())
    }

    /// The bare items.
    pub(super) fn into_values(self) -> Vec<T> {
        self.items.into_iter().map(|item| item.value).collect()
    }
}

impl<T: Clone> List<T> {
    /// A copy of the bare items.
    pub(super) fn values(&self) -> Vec<T> {
        self.items.iter().map(|item| item.value.clone()).collect()
    }
}

/// One table that is being read.
pub(super) struct Table<'d> {
    /// How the file writes it, for example `[endpoint.s3]`; empty for the file itself.
    pub(super) title: String,
    /// The table's header.
    pub(super) header: Span,
    entries: Vec<Value<'d>>,
    known: Vec<&'static str>,
    report: &'d Report,
}

/// One value that is being read.
pub(super) struct Value<'d> {
    /// Its key; of a list's item, the list's.
    pub(super) key: &'d str,
    /// Where the key stands.
    pub(super) key_span: Span,
    /// Where the value stands.
    pub(super) span: Span,
    item: &'d DeValue<'d>,
    report: &'d Report,
}

impl<'d> Table<'d> {
    /// The whole document; `end` is where something missing would be added.
    pub(super) fn root(document: &'d DeTable<'d>, end: Span, report: &'d Report) -> Self {
        Self::new(String::new(), end, document, report)
    }

    fn new(title: String, header: Span, table: &'d DeTable<'d>, report: &'d Report) -> Self {
        let mut entries: Vec<_> = table
            .iter()
            .map(|(key, value)| Value {
                key: key.get_ref(),
                key_span: key.span(),
                span: value.span(),
                item: value.get_ref(),
                report,
            })
            .collect();
        entries.sort_by_key(|entry| entry.key_span.start);
        Self { title, header, entries, known: Vec::new(), report }
    }

    /// Takes a key that may be absent.
    pub(super) fn optional(&mut self, key: &'static str) -> Option<Value<'d>> {
        self.known.push(key);
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(at))
    }

    /// Takes a key that must be there; `example` is a value for the remedy.
    pub(super) fn required(&mut self, key: &'static str, example: &str) -> Option<Value<'d>> {
        let found = self.optional(key);
        if found.is_none() {
            let problem =
                Problem::at(self.header.clone(), format!("`{key}` is missing in {}", self.title));
            let help = format!("add it, for example: {key} = {example}");
            self.report.error(problem.help(help).needs_whole_file());
        }
        found
    }

    /// Takes a table that may be absent.
    pub(super) fn optional_table(&mut self, key: &'static str) -> Option<Self> {
        self.optional(key)?.table(format!("[{key}]"))
    }

    /// Takes a table that must be there.
    pub(super) fn required_table(&mut self, key: &'static str, purpose: &str) -> Option<Self> {
        let found = self.optional(key);
        if found.is_none() {
            let problem = Problem::at(self.header.clone(), format!("there is no [{key}] table"));
            let help = format!("add [{key}]: {purpose}");
            self.report.error(problem.help(help).needs_whole_file());
        }
        found?.table(format!("[{key}]"))
    }

    /// Takes `[[key]]`: any number of tables.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.optional(key) else { return Vec::new() };
        let inside = self.title.trim_matches(['[', ']']);
        let dot = if inside.is_empty() { "" } else { "." };
        let title = format!("[[{inside}{dot}{key}]]");
        let DeValue::Array(_) = value.item else {
            let problem = Problem::at(value.key_span, format!("`{key}` must be written {title}"));
            self.report.error(problem.help(format!("write {title}, once for each {key}")));
            return Vec::new();
        };
        value.items().into_iter().filter_map(|item| item.table(title.clone())).collect()
    }

    /// Takes everything that is left, in the order of the file: for tables whose keys are names.
    pub(super) fn rest(&mut self) -> Vec<Value<'d>> {
        std::mem::take(&mut self.entries)
    }

    /// Takes a key that has no business here, if it is there.
    pub(super) fn misplaced(&mut self, key: &str) -> Option<Value<'d>> {
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(at))
    }

    /// Reports every key that nothing asked for.
    pub(super) fn finish(self) {
        for entry in &self.entries {
            self.report.error(self.unknown(entry).needs_whole_file());
        }
    }

    fn unknown(&self, entry: &Value<'_>) -> Problem {
        let key = shown(entry.key);
        let guess = suggest::nearest(entry.key, self.known.iter().copied());
        let at = entry.key_span.clone();
        if !self.title.is_empty() {
            let known = self.known.join("`, `");
            let help = match guess {
                Some(guess) => format!("did you mean `{guess}`?"),
                None => format!("its keys are `{known}`"),
            };
            return Problem::at(at, format!("unknown key `{key}` in {}", self.title)).help(help);
        }
        let known = self.known.join("], [");
        let help = match guess {
            Some(guess) => format!("did you mean [{guess}]?"),
            None => format!("the file's tables are [{known}]"),
        };
        match entry.item {
            DeValue::Table(_) | DeValue::Array(_) => {
                Problem::at(at, format!("unknown table [{key}]")).help(help)
            }
            _ => Problem::at(at, format!("the key `{key}` stands outside of any table"))
                .help("move it below the header of the table it belongs to"),
        }
    }
}

impl<'d> Value<'d> {
    /// A table, called `title` in messages.
    pub(super) fn table(&self, title: String) -> Option<Table<'d>> {
        let DeValue::Table(table) = self.item else {
            let help = format!("write {title} on a line of its own, and its keys below");
            self.wrong("a table", Some(help));
            return None;
        };
        Some(Table::new(title, self.span.clone(), table, self.report))
    }

    /// Text.
    pub(super) fn text(&self) -> Option<At<&'d str>> {
        let DeValue::String(text) = self.item else {
            let plain = match self.item {
                DeValue::Integer(number) => Some(number.to_string()),
                DeValue::Float(number) => Some(number.to_string()),
                DeValue::Datetime(time) => Some(time.to_string()),
                _ => None,
            };
            let help = plain.map(|plain| format!("put it in quotes: \"{plain}\""));
            self.wrong("text", help.or_else(|| Some("write one text in quotes".to_owned())));
            return None;
        };
        Some(At { value: text.as_ref(), span: self.span.clone() })
    }

    /// Text that `parse` can read.
    pub(super) fn parse<T>(&self, parse: impl Fn(&str) -> Result<T, Fault>) -> Option<At<T>> {
        let text = self.text()?;
        match parse(text.value) {
            Ok(value) => Some(At { value, span: text.span }),
            Err(fault) => {
                self.fault(fault);
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Option<At<T>> {
        let text = self.text()?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text.value) {
            return Some(At { value: *value, span: text.span });
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let problem =
            Problem::at(text.span, format!("`{}` cannot be \"{}\"", self.key, shown(text.value)));
        self.report.error(problem.help(format!("write {}", words.join(" or "))));
        None
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<At<bool>> {
        let DeValue::Boolean(value) = self.item else {
            self.wrong("true or false", Some("write true or false, without quotes".to_owned()));
            return None;
        };
        Some(At { value: *value, span: self.span.clone() })
    }

    /// A whole number between `least` and `most`.
    pub(super) fn integer(&self, least: u16, most: u16) -> Option<At<u16>> {
        let At { value, span } = self.count(u32::from(least), u32::from(most))?;
        Some(At { value: u16::try_from(value).ok()?, span })
    }

    /// A whole number in a wider range.
    pub(super) fn count(&self, least: u32, most: u32) -> Option<At<u32>> {
        let range = format!("write a whole number from {least} to {most}, without quotes");
        let DeValue::Integer(number) = self.item else {
            self.wrong("a whole number", Some(range));
            return None;
        };
        let value = u32::from_str_radix(number.as_str(), number.radix()).ok();
        let Some(value) = value.filter(|value| (least..=most).contains(value)) else {
            let message =
                format!("{} is out of range for `{}`", shown(&number.to_string()), self.key);
            self.report.error(Problem::at(self.span.clone(), message).help(range));
            return None;
        };
        Some(At { value, span: self.span.clone() })
    }

    /// The number as text, where it is one: some keys take `0` for "never".
    pub(super) fn number_text(&self) -> Option<&'d str> {
        let DeValue::Integer(number) = self.item else { return None };
        (number.radix() == 10).then(|| number.as_str())
    }

    /// A TOML date-time, where it is one.
    pub(super) fn datetime(&self) -> Option<toml::value::Datetime> {
        self.item.as_datetime().copied()
    }

    /// A list of which `read` can read each item; duplicates are reported.
    pub(super) fn list<T: Eq + Hash + Clone>(
        &self,
        read: impl Fn(&Self) -> Option<At<T>>,
    ) -> List<T> {
        let DeValue::Array(_) = self.item else {
            let help = match self.item {
                DeValue::String(text) => format!("put it in brackets: [\"{}\"]", shown(text)),
                DeValue::Integer(number) => format!("put it in brackets: [{number}]"),
                _ => "write a list in brackets".to_owned(),
            };
            self.wrong("a list", Some(help));
            return List::missing();
        };
        let mut list = List { items: Vec::new(), state: ListState::Whole };
        let mut seen: HashMap<T, Span> = HashMap::new();
        for item in self.items() {
            let Some(read) = read(&item) else {
                list.state = ListState::Partial;
                continue;
            };
            if let Some(first) = seen.get(&read.value) {
                let problem = Problem::at(read.span, format!("`{}` has this twice", self.key));
                self.report.error(problem.also(first.clone(), "first here").help("remove one"));
                continue;
            }
            seen.insert(read.value.clone(), read.span.clone());
            list.items.push(read);
        }
        list
    }

    /// A list that must not be empty.
    pub(super) fn filled_list<T: Eq + Hash + Clone>(
        &self,
        example: &str,
        read: impl Fn(&Self) -> Option<At<T>>,
    ) -> List<T> {
        if matches!(self.item, DeValue::Array(array) if array.is_empty()) {
            let problem = Problem::at(self.span.clone(), format!("`{}` is empty", self.key));
            let help = format!("name at least one, for example: {} = {example}", self.key);
            self.report.error(problem.help(help));
            return List::missing();
        }
        self.list(read)
    }

    /// Reports something about the value.
    pub(super) fn fault(&self, fault: Fault) {
        let problem = Problem::at(self.span.clone(), fault.message);
        self.report.error(problem.help(fault.help));
    }

    fn items(&self) -> Vec<Self> {
        let DeValue::Array(array) = self.item else { return Vec::new() };
        let item = |item: &'d toml::Spanned<DeValue<'d>>| Self {
            key: self.key,
            key_span: self.key_span.clone(),
            span: item.span(),
            item: item.get_ref(),
            report: self.report,
        };
        array.iter().map(item).collect()
    }

    fn wrong(&self, wanted: &str, help: Option<String>) {
        let found = match self.item {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let message = format!("`{}` must be {wanted}, but this is {found}", shown(self.key));
        let mut problem = Problem::at(self.span.clone(), message);
        problem.help = help;
        self.report.error(problem);
    }
}
