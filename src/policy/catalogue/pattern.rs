//! Reads and writes names by the forms of the catalogue.
//!
//! A form is compared label by label from the right, so a name can only match a form whose domain it
//! really lies in.

use super::{Form, Partition};

/// What a name has in the places of a form's placeholders.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matched<'n> {
    pub(super) partition: Partition,
    pub(super) region: Option<&'n str>,
    pub(super) account: Option<&'n str>,
    pub(super) prefix: Option<&'n str>,
    pub(super) bucket: Option<&'n str>,
}

/// What to write into a form's placeholders.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct Blanks<'a> {
    pub(in crate::policy) partition: Partition,
    pub(in crate::policy) region: &'a str,
    pub(in crate::policy) account: &'a str,
    pub(in crate::policy) bucket: &'a str,
}

impl Form {
    /// Matches a canonical name in one of the partitions.
    pub(super) fn matches<'n>(
        &self,
        name: &'n str,
        partitions: &[Partition],
    ) -> Option<Matched<'n>> {
        partitions.iter().find_map(|partition| self.matches_in(name, *partition))
    }

    fn matches_in<'n>(&self, name: &'n str, partition: Partition) -> Option<Matched<'n>> {
        let (pattern, domain) = self.split(partition)?;
        let head = name.strip_suffix(domain)?;
        let head = if domain.is_empty() { head } else { head.strip_suffix('.')? };
        let empty = Matched { partition, region: None, account: None, prefix: None, bucket: None };
        let matched = match_labels(pattern, head, empty)?;
        self.regions.hold(matched.region).then_some(matched)
    }

    /// Writes the name; `None` where the form does not exist in the partition or region.
    pub(in crate::policy) fn render(&self, blanks: &Blanks<'_>) -> Option<String> {
        let (pattern, domain) = self.split(blanks.partition)?;
        self.regions.hold(Some(blanks.region)).then(|| {
            let head = pattern
                .replace("{r}", blanks.region)
                .replace("{account}", blanks.account)
                .replace("{bucket}", blanks.bucket);
            if domain.is_empty() { head } else { format!("{head}.{domain}") }
        })
    }

    /// The form without its domain, and the domain in a partition.
    fn split(&self, partition: Partition) -> Option<(&'static str, &'static str)> {
        if let Some(head) = self.pattern.strip_suffix(".{main}") {
            Some((head, partition.main()))
        } else if let Some(head) = self.pattern.strip_suffix(".{dual}") {
            Some((head, partition.dual()))
        } else if let Some(head) = self.pattern.strip_suffix(".{on}") {
            Some((head, partition.on()?))
        } else {
            Some((self.pattern, ""))
        }
    }
}

/// Compares labels from the right; the leftmost placeholder may take several.
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

fn split_last(text: &str) -> (Option<&str>, &str) {
    text.rsplit_once('.').map_or((None, text), |(rest, last)| (Some(rest), last))
}

/// Compares one label with one label of a form: literals around placeholders.
fn match_label<'n>(pattern: &str, label: &'n str, mut matched: Matched<'n>) -> Option<Matched<'n>> {
    let Some((before, behind)) = pattern.split_once('{') else {
        return (pattern == label).then_some(matched);
    };
    let label = label.strip_prefix(before)?;
    let (placeholder, behind) = behind.split_once('}')?;
    let literal = behind.split_once('{').map_or(behind, |(literal, _)| literal);
    // A placeholder takes as much as it can: `{id}-{account}` splits at the last hyphen.
    let end = if literal.is_empty() { label.len() } else { label.rfind(literal)? };
    let (value, rest) = label.split_at_checked(end)?;
    fill(placeholder, value, &mut matched)?;
    match_label(behind, rest, matched)
}

fn fill<'n>(placeholder: &str, value: &'n str, matched: &mut Matched<'n>) -> Option<()> {
    if value.is_empty() {
        return None;
    }
    match placeholder {
        "r" => {
            let agrees = matched.region.is_none_or(|other| other == value);
            if !agrees || Partition::of_region(value) != Some(matched.partition) {
                return None;
            }
            matched.region = Some(value);
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
