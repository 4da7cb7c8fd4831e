//! The checkpoints' rhythm: a log that says nothing for longer than it promised was stopped, or cut.

use super::super::chain;
use super::system::System;

/// What the next checkpoint has to follow.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// Checkpoints whose signature holds.
    pub(super) checkpoints: u64,
    /// Lines since the last checkpoint, as far as they were seen.
    since: Since,
    beat: Option<Beat>,
}

/// How many lines a checkpoint may say came before it: a start begins to count anew, and writes
/// what waited before its own first record.
#[derive(Clone, Copy, Debug)]
struct Since {
    least: u64,
    most: u64,
}

impl Default for Since {
    fn default() -> Self {
        // Before the first line that is there, nobody knows.
        Self { least: 0, most: u64::MAX }
    }
}

/// The last signed sign of life.
#[derive(Debug)]
struct Beat {
    boot_id: String,
    mono_ns: u64,
    logged: u64,
    interval_s: u64,
    /// The log was closed in order.
    stopped: bool,
}

impl Pulse {
    /// Another line.
    pub(super) fn line(&mut self) {
        self.since.least = self.since.least.saturating_add(1);
        self.since.most = self.since.most.saturating_add(1);
    }

    /// Lines are missing or unreadable here.
    pub(super) fn hole(&mut self) {
        self.since = Since::default();
    }

    /// A checkpoint, whose own place follows from `head`.
    ///
    /// # Errors
    /// It says something else than the chain.
    pub(super) fn checkpoint(
        &mut self,
        system: &System<'_>,
        head: (u64, &str),
    ) -> Result<(), String> {
        self.checkpoints = self.checkpoints.saturating_add(1);
        let Since { least, most } = std::mem::replace(&mut self.since, Since { least: 0, most: 0 });
        // The checkpoint itself has been counted as a line.
        let (least, most) = (least.saturating_sub(1), most.saturating_sub(1));
        let facts = &system.facts;
        let same = facts.head.and_then(chain::parse_hash) == chain::parse_hash(head.1);
        if facts.seq != Some(head.0) || !same {
            return Err("the checkpoint is of another place of the chain".to_owned());
        }
        let records = facts.records.unwrap_or_default();
        if records < least || records > most {
            let there_are = if records < least { least } else { most };
            return Err(format!(
                "the checkpoint says that {records} records came since the last one, there are \
                 {there_are}"
            ));
        }
        Ok(())
    }

    /// A signed record; those with a boot id and a time are signs of life. One of an outage is a sign of
    /// life up to when it began, and again from its own time on.
    ///
    /// # Errors
    /// The last one is longer ago than the log promised.
    pub(super) fn beat(&mut self, system: &System<'_>, logged: u64) -> Result<(), String> {
        let facts = &system.facts;
        let start = system.status_code == "boot";
        if start {
            self.since.least = 1;
        }
        if !matches!(system.status_code, "boot" | "checkpoint" | "stop" | "outage") {
            return Ok(());
        }
        let Some(boot_id) = facts.boot_id else { return Ok(()) };
        let before = self.beat.take();
        let interval_s = facts.interval_s.or(before.as_ref().map(|beat| beat.interval_s));
        let stopped = before.as_ref().is_some_and(|beat| beat.stopped);
        self.beat = Some(Beat {
            boot_id: boot_id.to_owned(),
            mono_ns: facts.mono_ns,
            logged,
            interval_s: interval_s.unwrap_or(USUAL_INTERVAL),
            stopped: system.status_code == "stop" || stopped && !start,
        });
        let Some(before) = before else { return Ok(()) };
        let closed = before.stopped && start;
        let until = facts.since_ns.map_or(facts.mono_ns, |since| since.min(facts.mono_ns));
        let silent = until.saturating_sub(before.mono_ns) / 1_000_000_000;
        if before.boot_id != boot_id || closed || silent <= before.limit() {
            return Ok(());
        }
        Err(format!(
            "for {silent} s no checkpoint was written, with {} s promised: the log was stopped \
             without saying so, or records were cut out",
            before.interval_s
        ))
    }

    /// An unsigned line at this time; the sentence when a checkpoint should have come before it.
    pub(super) fn unsigned(&mut self, logged: u64) -> Option<String> {
        let beat = self.beat.as_mut()?;
        let silent = logged.saturating_sub(beat.logged) / 1000;
        if silent <= beat.limit() {
            return None;
        }
        // Said once.
        beat.logged = logged;
        Some(format!(
            "the record comes {silent} s behind the last checkpoint, with {} s promised",
            beat.interval_s
        ))
    }
}

impl Beat {
    /// What is still no missing checkpoint, in seconds: a busy disk may be late, but not by another
    /// interval.
    fn limit(&self) -> u64 {
        self.interval_s.saturating_add((self.interval_s / 2).max(LEAST_SLACK))
    }
}

/// Of logs that have not said theirs yet, in seconds.
const USUAL_INTERVAL: u64 = 60;
/// In seconds.
const LEAST_SLACK: u64 = 5;
