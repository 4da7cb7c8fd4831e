//! Reads and writes names by the forms of the catalogue.
//!
//! A form is compared label by label from the right, so a name can only match a form whose domain it
//! really lies in.

use super::partition::Domain;
use super::{Form, Partition};

/// A name, and the AWS domain it lies in: found once, compared with every form of that domain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Located<'n> {
    /// `None` where the name lies in no domain of AWS's.
    pub(super) domain: Option<Domain>,
    /// One of the partitions with this domain.
    partition: Partition,
    /// The name without the domain.
    pub(super) head: &'n str,
}

impl<'n> Located<'n> {
    pub(super) fn new(name: &'n str) -> Self {
        let within = Domain::ALL.iter().find_map(|domain| {
            // GovCloud's domains are the commercial ones: the region tells which it is.
            [Partition::Commercial, Partition::China, Partition::EuropeanSovereign]
                .into_iter()
                .find_map(|partition| {
                    let head = name.strip_suffix(domain.of(partition)?)?.strip_suffix('.')?;
                    Some(Self { domain: Some(*domain), partition, head })
                })
        });
        within.unwrap_or(Self { domain: None, partition: Partition::Commercial, head: name })
    }
}

/// What a name has in the places of a form's blanks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matched<'n> {
    pub(super) partition: Partition,
    pub(super) region: Option<&'n str>,
    pub(super) account: Option<&'n str>,
    pub(super) prefix: Option<&'n str>,
    pub(super) bucket: Option<&'n str>,
}

/// What to write into a form's blanks.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct Blanks<'a> {
    pub(in crate::policy) partition: Partition,
    pub(in crate::policy) region: &'a str,
    pub(in crate::policy) account: &'a str,
    pub(in crate::policy) bucket: &'a str,
}

impl Form {
    /// Matches a name that lies in the form's domain. `pattern` is the form without its domain.
    pub(super) fn matches<'n>(&self, pattern: &str, name: &Located<'n>) -> Option<Matched<'n>> {
        let partition = name.partition;
        let empty = Matched { partition, region: None, account: None, prefix: None, bucket: None };
        let matched = match_labels(pattern, name.head, empty)?;
        self.regions.hold(matched.region).then_some(matched)
    }

    /// Writes the name; `None` where the form does not exist in the partition or region.
    pub(in crate::policy) fn render(&self, blanks: &Blanks<'_>) -> Option<String> {
        let (pattern, domain) = self.split();
        if !self.regions.hold(Some(blanks.region)) {
            return None;
        }
        let head = pattern
            .replace("{r}", blanks.region)
            .replace("{account}", blanks.account)
            .replace("{bucket}", blanks.bucket);
        match domain {
            None => Some(head),
            Some(domain) => domain.of(blanks.partition).map(|domain| format!("{head}.{domain}")),
        }
    }

    /// The form without its domain, and which domain that is.
    pub(super) fn split(&self) -> (&'static str, Option<Domain>) {
        let domain = |head, domain| (head, Some(domain));
        match self.pattern.rsplit_once('.') {
            Some((head, "{main}")) => domain(head, Domain::Main),
            Some((head, "{dual}")) => domain(head, Domain::Dual),
            Some((head, "{on}")) => domain(head, Domain::On),
            _ => (self.pattern, None),
        }
    }
}

/// Compares labels from the right; the leftmost blank may take several.
fn match_labels<'n>(
    mut pattern: &str,
    mut name: &'n str,
    mut matched: Matched<'n>,
) -> Option<Matched<'n>> {
    loop {
        if let "{bucket}" | "{any}" = pattern {
            if pattern == "{bucket}" {
                matched.bucket = Some(name);
            }
            return (!name.is_empty()).then_some(matched);
        }
        let (pattern_rest, pattern_label) = split_last(pattern);
        let (name_rest, label) = split_last(name);
        matched = match_label(pattern_label, label, matched)?;
        match (pattern_rest, name_rest) {
            (None, None) => return Some(matched),
            (Some(p), Some(n)) => (pattern, name) = (p, n),
            _ => return None,
        }
    }
}

/// The last label, and what stands before it.
pub(super) fn split_last(text: &str) -> (Option<&str>, &str) {
    text.rsplit_once('.').map_or((None, text), |(rest, last)| (Some(rest), last))
}

/// Compares one label with one label of a form: literals around blanks.
fn match_label<'n>(pattern: &str, label: &'n str, mut matched: Matched<'n>) -> Option<Matched<'n>> {
    let Some((before, behind)) = pattern.split_once('{') else {
        return (pattern == label).then_some(matched);
    };
    let label = label.strip_prefix(before)?;
    let (blank, behind) = behind.split_once('}')?;
    let literal = behind.split_once('{').map_or(behind, |(literal, _)| literal);
    // A blank takes as much as it can: `{id}-{account}` splits at the last hyphen.
    let end = if literal.is_empty() { label.len() } else { label.rfind(literal)? };
    let (value, rest) = label.split_at_checked(end)?;
    fill(blank, value, &mut matched)?;
    match_label(behind, rest, matched)
}

fn fill<'n>(blank: &str, value: &'n str, matched: &mut Matched<'n>) -> Option<()> {
    if value.is_empty() {
        return None;
    }
    match blank {
        "r" => {
            let partition = Partition::of_region(value)?;
            let same_domain = Domain::Main.of(partition) == Domain::Main.of(matched.partition);
            if !same_domain || matched.region.is_some_and(|other| other != value) {
                return None;
            }
            (matched.region, matched.partition) = (Some(value), partition);
        }
        "account" => {
            if value.len() != 12 || !value.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            matched.account = Some(value);
        }
        "prefix" => matched.prefix = Some(value),
        _ => {}
    }
    Some(())
}
