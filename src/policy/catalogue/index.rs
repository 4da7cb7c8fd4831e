//! Finds the form of a name without trying all forms.
//!
//! A tree of labels, from the right. It only narrows down: the few forms it leads to are compared as
//! a whole, in the catalogue's order, so it decides no more than how long that takes. A walk goes as
//! deep as the longest form, not as the name, and allocates nothing.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::partition::Domain;
use super::pattern::{Located, Matched, split_last};
use super::{Form, Row, rows};

/// The first form of the catalogue that a name has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'n> {
    place: usize,
    pub(super) row: &'static Row,
    pub(super) form: &'static Form,
    pub(super) matched: Matched<'n>,
}

/// Finds the first form, and its row, that a name has.
pub(super) fn find(name: &str) -> Option<Found<'_>> {
    let name = Located::new(name);
    let mut found = None;
    INDEX.root(name.domain).find(Some(name.head), &name, &mut found);
    found
}

static INDEX: LazyLock<Index> = LazyLock::new(Index::new);

/// A tree for each family of domains, and one for names in none of them.
#[derive(Debug, Default)]
struct Index {
    main: Node,
    dual: Node,
    on: Node,
    elsewhere: Node,
}

impl Index {
    fn new() -> Self {
        let mut index = Self::default();
        let forms = rows().flat_map(|row| row.forms.iter().map(move |form| (row, form)));
        for (place, (row, form)) in forms.enumerate() {
            let (pattern, domain) = form.split();
            let root = match domain {
                Some(Domain::Main) => &mut index.main,
                Some(Domain::Dual) => &mut index.dual,
                Some(Domain::On) => &mut index.on,
                None => &mut index.elsewhere,
            };
            root.add(Some(pattern), Entry { place, row, form, pattern });
        }
        index
    }

    fn root(&self, domain: Option<Domain>) -> &Node {
        match domain {
            Some(Domain::Main) => &self.main,
            Some(Domain::Dual) => &self.dual,
            Some(Domain::On) => &self.on,
            None => &self.elsewhere,
        }
    }
}

/// Where the labels so far lead.
#[derive(Debug, Default)]
struct Node {
    literals: BTreeMap<&'static str, Self>,
    blanks: Vec<(Blank, Self)>,
    /// Forms that end here, in the catalogue's order.
    ends: Vec<Entry>,
    /// Forms whose first blank takes all labels that are left, in the catalogue's order.
    rest: Vec<Entry>,
}

impl Node {
    fn add(&mut self, pattern: Option<&'static str>, entry: Entry) {
        let Some(pattern) = pattern else { return self.ends.push(entry) };
        if let "{bucket}" | "{any}" = pattern {
            return self.rest.push(entry);
        }
        let (rest, label) = split_last(pattern);
        let next = match Blank::of(label) {
            None => self.literals.entry(label).or_default(),
            Some(blank) => self.below(blank),
        };
        next.add(rest, entry);
    }

    fn below(&mut self, blank: Blank) -> &mut Self {
        let place = self.blanks.iter().position(|(known, _)| *known == blank);
        let place = place.unwrap_or_else(|| {
            self.blanks.push((blank, Self::default()));
            self.blanks.len() - 1
        });
        &mut self.blanks.get_mut(place).expect("found or just added").1
    }

    fn find<'n>(&self, left: Option<&str>, name: &Located<'n>, found: &mut Option<Found<'n>>) {
        let Some(left) = left else { return first_of(&self.ends, name, found) };
        first_of(&self.rest, name, found);
        let (rest, label) = split_last(left);
        if let Some(next) = self.literals.get(label) {
            next.find(rest, name, found);
        }
        for (blank, next) in &self.blanks {
            if blank.fits(label) {
                next.find(rest, name, found);
            }
        }
    }
}

/// Keeps the first form that the name has, of these and the one found so far.
fn first_of<'n>(entries: &[Entry], name: &Located<'n>, found: &mut Option<Found<'n>>) {
    for Entry { place, row, form, pattern } in entries {
        if found.is_some_and(|found| found.place < *place) {
            return;
        }
        let Some(matched) = form.matches(pattern, name) else { continue };
        if row.partitions.contains(&matched.partition) {
            *found = Some(Found { place: *place, row, form, matched });
            return;
        }
    }
}

/// A form in the tree.
#[derive(Debug)]
struct Entry {
    /// In the catalogue's order.
    place: usize,
    row: &'static Row,
    form: &'static Form,
    /// The form's text without its domain.
    pattern: &'static str,
}

/// A label with blanks: what it begins and ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Blank {
    before: &'static str,
    behind: &'static str,
}

impl Blank {
    fn of(label: &'static str) -> Option<Self> {
        let (before, _) = label.split_once('{')?;
        let (_, behind) = label.rsplit_once('}')?;
        Some(Self { before, behind })
    }

    fn fits(self, label: &str) -> bool {
        label.strip_prefix(self.before).is_some_and(|rest| rest.ends_with(self.behind))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Partition;
    use super::*;

    #[test]
    fn a_form_without_a_domain_lies_in_no_domain_of_aws() {
        // Otherwise the tree of the domain would hide it.
        for form in rows().flat_map(|row| row.forms) {
            let (pattern, None) = form.split() else { continue };
            for partition in Partition::ALL {
                for domain in Domain::ALL.iter().filter_map(|domain| domain.of(*partition)) {
                    assert!(!pattern.ends_with(domain), "{pattern}");
                }
            }
        }
    }

    /// What [`find`] must find: the first of all forms, tried one by one.
    fn by_trying(name: &str) -> Option<(&'static str, &'static str)> {
        let name = Located::new(name);
        rows().flat_map(|row| row.forms.iter().map(move |form| (row, form))).find_map(
            |(row, form)| {
                let (pattern, domain) = form.split();
                let matched = form.matches(pattern, &name).filter(|_| domain == name.domain)?;
                row.partitions.contains(&matched.partition).then_some((row.key, form.pattern))
            },
        )
    }

    #[test]
    fn every_form_is_found_as_if_all_had_been_tried() {
        let mut found = 0;
        for form in rows().flat_map(|row| row.forms) {
            let (pattern, domain) = form.split();
            for region in
                ["eu-central-1", "cn-north-1", "us-gov-west-1", "eusc-de-east-1", "nowhere"]
            {
                for label in ["x", "a-b-ats", "a.b", "data", "iot", "s3", "vpce-0a", "123456789012"]
                {
                    let partition = Partition::of_region(region).unwrap_or(Partition::Commercial);
                    let mut name = pattern.replace("{r}", region);
                    for blank in ["{any}", "{bucket}", "{account}", "{prefix}", "{id}"] {
                        name = name.replace(blank, label);
                    }
                    if let Some(domain) = domain.and_then(|domain| domain.of(partition)) {
                        name = format!("{name}.{domain}");
                    }
                    let one = find(&name).map(|found| (found.row.key, found.form.pattern));
                    assert_eq!(one, by_trying(&name), "{name}");
                    found += usize::from(one.is_some());
                }
            }
        }
        assert!(found > 1_000, "{found}");
    }
}
