//! What the author of a misspelt word may have meant.

/// The candidate nearest to `word`, if one is near enough to be worth asking about.
pub(super) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    // Every third letter may be wrong: `s3` is not offered for `kms`, `networks` is for `netwoks`.
    let limit = (word.chars().count() / 3).max(1);
    if word.len() > LONGEST {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`, ignoring
/// case and the difference between `_` and `-`.
fn distance(a: &str, b: &str) -> usize {
    let fold = |c: char| if c == '_' { '-' } else { c.to_ascii_lowercase() };
    let b: Vec<char> = b.chars().map(fold).collect();
    let mut older: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut last_a = None;
    for (row, from) in a.chars().map(fold).enumerate() {
        let mut line = vec![row + 1];
        let mut left = row + 1;
        let mut last_b = None;
        for (column, to) in b.iter().copied().enumerate() {
            let at =
                |line: &[usize], column: usize| line.get(column).copied().unwrap_or(usize::MAX);
            let replaced = at(&above, column).saturating_add(usize::from(from != to));
            let removed = at(&above, column + 1).saturating_add(1);
            let mut best = replaced.min(removed).min(left + 1);
            if last_a == Some(to) && last_b == Some(from) && column > 0 {
                best = best.min(at(&older, column - 1).saturating_add(1));
            }
            line.push(best);
            left = best;
            last_b = Some(to);
        }
        last_a = Some(from);
        older = std::mem::replace(&mut above, line);
    }
    above.last().copied().unwrap_or_default()
}

/// Nothing the file format knows is longer; longer words are not worth the time.
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        for (a, b, edits) in [
            ("networks", "networks", 0),
            ("netwoks", "networks", 1),
            ("netowrks", "networks", 1),
            ("path_style", "path-style", 0),
            ("Host", "host", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), edits, "{a} -> {b}");
        }
    }

    #[test]
    fn offers_only_what_is_near() {
        let words = ["interfaces", "networks", "s3", "kms"];
        assert_eq!(nearest("interface", words), Some("interfaces"));
        assert_eq!(nearest("s4", words), Some("s3"));
        assert_eq!(nearest("colour", words), None);
        assert_eq!(nearest(&"x".repeat(100_000), words), None);
    }
}
