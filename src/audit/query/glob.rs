//! Patterns with `*` for any text and `?` for one character.

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Takes a pattern as it is written.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_owned())
    }

    /// Whether the whole text fits. Takes no more than its length times the pattern's.
    pub fn matches(&self, text: &str) -> bool {
        let (mut pattern, mut text) = (self.0.chars(), text.chars());
        // Where to go on when the last star has to take one character more.
        let mut star = None;
        loop {
            let mut ahead = pattern.clone();
            let mut rest = text.clone();
            match (ahead.next(), rest.next()) {
                (Some('*'), _) => {
                    star = Some((ahead.clone(), text.clone()));
                    pattern = ahead;
                    continue;
                }
                (None, None) => return true,
                (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                    (pattern, text) = (ahead, rest);
                    continue;
                }
                _ => {}
            }
            let Some((behind, taken)) = &mut star else { return false };
            if taken.next().is_none() {
                return false;
            }
            (pattern, text) = (behind.clone(), taken.clone());
        }
    }

    /// The longest text that all that fits has in it, and that JSON writes as it is.
    pub(super) fn literal(&self) -> &str {
        let split = |c: char| matches!(c, '*' | '?' | '"' | '\\') || c.is_control();
        self.0.split(split).max_by_key(|part| part.len()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, fits) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "abc", true),
            ("press-?", "press-3", true),
            ("press-?", "press-", false),
            ("press-?", "press-33", false),
            ("*.example", "a.b.example", true),
            ("*.example", "a.b.example.com", false),
            ("a*b*c", "aXXbYYbZc", true),
            ("a*b*c", "aXXbYYbZ", false),
            ("*ab", "aab", true),
            ("a*", "b", false),
            ("**a", "bca", true),
            ("é?", "éé", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), fits, "{pattern} {text}");
        }
        let slow = format!("{}b", "a*".repeat(40));
        assert!(!Glob::new(&slow).matches(&"a".repeat(2_000)));
    }

    #[test]
    fn the_longest_literal() {
        assert_eq!(Glob::new("*.vendor.*").literal(), ".vendor.");
        assert_eq!(Glob::new("**?").literal(), "");
        assert_eq!(Glob::new("a\"bc\\d\n").literal(), "bc");
    }
}
