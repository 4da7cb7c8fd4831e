//! `sluicegate flows`: what is on record, filtered, and as it comes.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use time::OffsetDateTime;

use super::filters::Filters;
use super::forms::{Form, Paint};
use super::log::{Log, unanswered};
use super::{EXIT_NONE, block_on, note};
use crate::audit::query::{AnswerError, Plan, Query, Tail, Tally};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate flows --denied --since 24h\n  \
    sluicegate flows -f --device 'press-*' --not --name '*.amazonaws.com'\n  \
    sluicegate flows --all --bytes '>100M' -o json | jq .dst_endpoint")]
pub(super) struct Options {
    #[command(flatten)]
    log: Log,
    #[command(flatten)]
    filters: Filters,
    /// How many of the newest records to show
    #[arg(short = 'n', value_name = "N", default_value_t = 20, conflicts_with = "all")]
    number: u64,
    /// Show all of them, oldest first
    #[arg(long)]
    all: bool,
    /// Then go on with those that come, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// How to show them; json is the stored line, byte for byte
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Output::Compact)]
    output: Output,
}

/// What `-o` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Compact,
    Wide,
    Json,
    Csv,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let directory = options.log.directory();
    match answer(options, &directory) {
        Ok(_) if options.follow => ExitCode::SUCCESS,
        Ok(tally) => found(tally),
        Err(error) => unanswered(&directory, &error),
    }
}

/// Says what was left out, and whether there was anything.
pub(super) fn found(tally: Tally) -> ExitCode {
    if tally.unread > 0 {
        note(&format!("{} lines of the log cannot be read and were left out", tally.unread));
    }
    if tally.records > 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NONE) }
}

fn answer(options: &Options, directory: &Path) -> Result<Tally, AnswerError> {
    let query = options.filters.query();
    let form = options.output.form();
    let mut plan = Plan::new(directory, &query)?;
    let tail = options.follow.then(|| Tail::behind(directory, &mut plan)).transpose()?;
    let skip = if options.all { 0 } else { plan.keep_last(&query, options.number)? };
    let mut out = BufWriter::new(io::stdout().lock());
    out.write_all(form.head().as_bytes())?;
    let tally =
        plan.write(&query, skip, |text, line, view| form.append(text, line, view), &mut out)?;
    if let Some(tail) = tail {
        follow(tail, &query, form, &mut out)?;
    }
    Ok(tally)
}

/// Shows what comes until somebody interrupts, or nobody reads any more.
fn follow(
    mut tail: Tail,
    query: &Query,
    form: Form,
    out: &mut dyn Write,
) -> Result<(), AnswerError> {
    let mut text = Vec::new();
    block_on(async {
        let mut tick = tokio::time::interval(POLL);
        loop {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return Ok(()),
                _ = tick.tick() => {}
            }
            tail.poll(query, |line, view| form.append(&mut text, line, view))?;
            out.write_all(&text)?;
            out.flush()?;
            text.clear();
            if nobody_reads() {
                return Ok(());
            }
        }
    })?
}

/// The other end of a pipe is closed: nothing that is written would say so until there is something.
fn nobody_reads() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let polled = poll(&mut fds, Some(&now));
    let gone = PollFlags::ERR | PollFlags::HUP;
    polled.is_ok() && fds.iter().any(|fd| fd.revents().intersects(gone))
}

impl Output {
    fn form(self) -> Form {
        let today = OffsetDateTime::now_utc().date();
        let paint = if io::stdout().is_terminal() { Paint::Colour } else { Paint::Plain };
        match self {
            Self::Compact => Form::Compact(today, paint),
            Self::Wide => Form::Wide(today, paint),
            Self::Json => Form::Stored,
            Self::Csv => Form::Csv,
        }
    }
}

const POLL: Duration = Duration::from_millis(250);
