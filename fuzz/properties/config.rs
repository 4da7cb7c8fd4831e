//! A configuration file as anybody may write it.

use sluicegate::config::{self, Style};
use sluicegate::policy::Policy;

/// Text is a site that compiles, or has problems that can be shown.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let problems = match config::parse(text, "fuzz.toml") {
        Ok(loaded) => {
            let policy = Policy::compile(&loaded.site);
            assert_eq!(**policy.hash(), *loaded.site.hash);
            loaded.warnings
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            problems
        }
    };
    let lines = text.split('\n').count();
    for problem in problems.iter() {
        let (line, column) = problems.position(problem);
        assert!((1..=lines).contains(&line) && column >= 1, "{line}:{column} of {lines} lines");
    }
    for style in [Style::Plain, Style::Colour] {
        assert_eq!(problems.render(style).is_empty(), problems.is_empty());
    }
    let _ = problems.to_json();
}
