//! OpenMetrics to the older text format, which tools without OpenMetrics read.
//!
//! There a counter's family has its samples' name, with `_total`, and there are neither units nor an end
//! mark (Prometheus, Exposition formats).

/// Writes what the library has written as OpenMetrics in the other format.
pub(super) fn from_open_metrics(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 1_024);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let family = |mark: &str, line: &str| {
            let (name, rest) = line.strip_prefix(mark)?.split_once(' ')?;
            Some((name.to_owned(), rest.to_owned()))
        };
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let Some((name, help)) = family("# HELP ", line) else {
            out.push_str(line);
            out.push('\n');
            continue;
        };
        let kind = lines.next_if(|next| next.starts_with("# TYPE "));
        let kind = kind.and_then(|line| family("# TYPE ", line)).map(|(_, kind)| kind);
        let kind = kind.unwrap_or_else(|| "untyped".to_owned());
        let suffix = if kind == "counter" { "_total" } else { "" };
        out.push_str(&format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_their_samples_name() {
        let open = "# HELP a_b Some help.\n# TYPE a_b counter\na_b_total{x=\"# TYPE\"} 1\n\
                    # HELP g Help.\n# TYPE g gauge\n# UNIT g seconds\ng 2\n# EOF\n";
        let text = "# HELP a_b_total Some help.\n# TYPE a_b_total counter\na_b_total{x=\"# TYPE\"} 1\n\
                    # HELP g Help.\n# TYPE g gauge\ng 2\n";
        assert_eq!(from_open_metrics(open), text);
    }
}
