//! Asks the log: which records fit, read as a stream in bounded memory.
//!
//! Never changes a file and needs no lock. A segment that cannot hold what is asked for is not
//! opened (`plan`); of the others every byte is looked at, but only lines that have the bytes which an
//! answer must have are parsed (`scan`); a growing log can be followed (`follow`).

mod follow;
mod glob;
mod plan;
mod run;
mod scan;
mod stats;
mod term;

use std::mem::discriminant;

pub use follow::Tail;
pub use glob::Glob;
pub use plan::Plan;
pub use run::{AnswerError, Tally};
pub use stats::{Place, Stats};
pub use term::{Compare, Order, Term};

use super::view::{Sort, View};
use term::Needle;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Query {
    groups: Vec<Group>,
    /// Least and greatest `time`, Unix time in ms, both included.
    since: Option<u64>,
    until: Option<u64>,
}

/// Whether a term is wanted or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sense {
    /// Records that fit.
    Is,
    /// Records that do not fit.
    IsNot,
}

/// Terms of one sort.
#[derive(Clone, Debug, Default)]
struct Group {
    any: Vec<Term>,
    none: Vec<Term>,
}

impl Query {
    /// Terms of the same sort are alternatives, those of different sorts must all fit, and none may
    /// fit that is unwanted. Where no sort of record is asked for, flows and refused packets are.
    pub fn new(terms: impl IntoIterator<Item = (Sense, Term)>) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for (sense, term) in terms {
            let same = groups.iter_mut().find(|group| group.is_of(&term));
            let group = match same {
                Some(group) => group,
                None => groups.push_mut(Group::default()),
            };
            match sense {
                Sense::Is => group.any.push(term),
                Sense::IsNot => group.none.push(term),
            }
        }
        let sorts = [Sort::Flow, Sort::Packet].map(Term::Sort);
        if !groups.iter().any(|group| sorts.iter().any(|sort| group.is_of(sort))) {
            groups.push(Group { any: sorts.into(), none: Vec::new() });
        }
        Self { groups, since: None, until: None }
    }

    /// Only records from this time on (Unix time in ms).
    #[must_use]
    pub fn since(self, since: Option<u64>) -> Self {
        Self { since, ..self }
    }

    /// Only records up to this time (Unix time in ms).
    #[must_use]
    pub fn until(self, until: Option<u64>) -> Self {
        Self { until, ..self }
    }

    /// Whether a record fits.
    pub fn matches(&self, view: &View<'_>) -> bool {
        self.since.is_none_or(|since| since <= view.time)
            && self.until.is_none_or(|until| view.time <= until)
            && self.groups.iter().all(|group| group.matches(view))
    }

    /// The least and the greatest sequence number that can fit.
    fn sequence(&self) -> (u64, u64) {
        let terms = self.groups.iter().flat_map(|group| &group.any);
        let ranges = terms.filter_map(|term| match term {
            Term::Sequence(first, last) => Some((*first, *last)),
            _ => None,
        });
        ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((0, u64::MAX))
    }

    /// A line that fits has, of each of these lists, at least one; the rarest come first.
    fn needles(&self) -> Vec<Vec<Needle>> {
        let mut needles: Vec<Vec<Needle>> = self.groups.iter().filter_map(Group::needles).collect();
        needles.sort_by_key(|list| {
            let rarity = list.iter().map(|needle| needle.rarity).min().unwrap_or_default();
            std::cmp::Reverse((list.len() == 1, rarity))
        });
        needles
    }
}

impl Group {
    fn is_of(&self, term: &Term) -> bool {
        let own = self.any.first().or(self.none.first());
        own.is_some_and(|own| discriminant(own) == discriminant(term))
    }

    fn matches(&self, view: &View<'_>) -> bool {
        (self.any.is_empty() || self.any.iter().any(|term| term.matches(view)))
            && !self.none.iter().any(|term| term.matches(view))
    }

    fn needles(&self) -> Option<Vec<Needle>> {
        let needles: Option<Vec<_>> = self.any.iter().map(Term::needle).collect();
        needles.filter(|needles| !needles.is_empty())
    }
}
