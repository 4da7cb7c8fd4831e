//! How the demo is shown: rows that appear as they come, or JSON.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};

use super::super::print;
use super::cases::Case;
use super::play::{Outcome, verdict_text};
use crate::lab::topology::DEVICES;
use crate::reason::Reason;

/// The table on standard output, and the progress line below it.
pub(super) struct Table {
    shown: Shown,
    colour: Colour,
    progress: Colour,
}

/// Whether rows are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// Each as it comes.
    Rows,
    /// None: JSON is wanted.
    Nothing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Colour {
    On,
    Off,
}

impl Table {
    /// A table whose rows are shown as they come, or not at all.
    pub(super) fn new(shown: Shown) -> Self {
        let on = |terminal| if terminal { Colour::On } else { Colour::Off };
        Self {
            shown,
            colour: on(std::io::stdout().is_terminal()),
            progress: on(std::io::stderr().is_terminal()),
        }
    }

    /// Says what is going on, where a person looks.
    pub(super) fn progress(&self, text: &str) {
        if self.progress == Colour::On {
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "\r\x1b[K{text} …");
            let _ = err.flush();
        }
    }

    pub(super) fn head(&self) {
        self.line(&columns([
            "case", "device", "name", "dialled", "expected", "verdict", "ENI", "up", "down",
        ]));
    }

    pub(super) fn row(&self, case: &Case, outcome: &Outcome) {
        let verdict = outcome.verdict.map_or_else(|| "?".to_owned(), verdict_text);
        let address = outcome.address.clone().unwrap_or_else(|| "-".to_owned());
        let dialled = dialled(case);
        let text = columns([
            case.name,
            device(case),
            &shortened(case.host),
            &dialled,
            word(case.expected),
            &verdict,
            &address,
            &size(outcome.bytes_up),
            &size(outcome.bytes_down),
        ]);
        let mark = if outcome.ok() { "ok" } else { "NOT AS EXPECTED" };
        self.line(&format!("{text}  {}", self.paint(mark, outcome.ok())));
        if let Some(complaint) = &outcome.complaint {
            self.line(&format!("    {complaint}"));
        }
    }

    pub(super) fn foot(&self, cases: usize, leaked: u64, ok: bool) {
        let verdict = if ok { "all as expected" } else { "NOT as expected" };
        self.line("");
        self.line(&format!(
            "{cases} cases, {leaked} packets leaked to the public side: {}",
            self.paint(verdict, ok)
        ));
    }

    fn line(&self, text: &str) {
        if self.progress == Colour::On {
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "\r\x1b[K");
        }
        if self.shown == Shown::Rows {
            print(&format!("{}\n", text.trim_end()));
        }
    }

    fn paint(&self, text: &str, good: bool) -> String {
        match (self.colour, good) {
            (Colour::Off, _) => text.to_owned(),
            (Colour::On, true) => format!("\x1b[32m{text}\x1b[0m"),
            (Colour::On, false) => format!("\x1b[1;31m{text}\x1b[0m"),
        }
    }
}

/// One case as JSON.
pub(super) fn json(case: &Case, outcome: &Outcome) -> Value {
    json!({
        "case": case.name,
        "device": device(case),
        "name": (!case.host.is_empty()).then_some(case.host),
        "port": case.port,
        "dialled": case.to.address(case.port).ip(),
        "expected": word(case.expected),
        "expected_reason": case.expected.err(),
        "verdict": outcome.verdict.map(word),
        "reason": outcome.verdict.and_then(Result::err),
        "endpoint": outcome.endpoint,
        "address": outcome.address,
        "bytes_up": outcome.bytes_up,
        "bytes_down": outcome.bytes_down,
        "ok": outcome.ok(),
        "complaint": outcome.complaint,
    })
}

fn word(verdict: Result<(), Reason>) -> &'static str {
    if verdict.is_ok() { "allow" } else { "deny" }
}

fn columns(fields: [&str; 9]) -> String {
    let [case, device, name, dialled, expected, verdict, address, up, down] = fields;
    format!(
        "{case:<21} {device:<9} {name:<31} {dialled:<21} {expected:<8} {verdict:<23} {address:<10} {up:>8} {down:>8}"
    )
}

fn device(case: &Case) -> &'static str {
    DEVICES.get(case.device).map_or("?", |device| device.name)
}

fn dialled(case: &Case) -> String {
    let address = case.to.address(case.port);
    if case.port == 0 { address.ip().to_string() } else { address.to_string() }
}

/// The name without what all AWS names of the site share.
fn shortened(name: &str) -> String {
    match name {
        "" => "-".to_owned(),
        name => {
            let name = name.replace(".eu-central-1.amazonaws.com", ".…");
            match name.split_at_checked(LONGEST_HEAD) {
                Some((head, tail)) if tail.chars().count() > LONGEST_TAIL => {
                    let tail: Vec<char> = tail.chars().rev().take(LONGEST_TAIL).collect();
                    format!("{head}…{}", tail.into_iter().rev().collect::<String>())
                }
                _ => name,
            }
        }
    }
}

/// How much of a long name is shown of its beginning and of its end.
const LONGEST_HEAD: usize = 16;
const LONGEST_TAIL: usize = 14;

fn size(bytes: u64) -> String {
    match bytes {
        0 => "-".to_owned(),
        1..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}
