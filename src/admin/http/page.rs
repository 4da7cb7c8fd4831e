//! The status page: one document with everything in it.
//!
//! A browser runs only what has the hashes of the policy: nothing that came in as data can become a
//! program (Content Security Policy Level 3 section 2.3.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::HeaderValue;
use sha2::{Digest as _, Sha256};

/// The page and what a browser may do with it.
#[derive(Clone, Debug)]
pub(super) struct Page {
    html: Bytes,
    policy: HeaderValue,
}

impl Page {
    pub(super) fn new() -> Self {
        let html = FRAME.replace(STYLE_MARK, STYLE).replace(SCRIPT_MARK, SCRIPT);
        let policy = format!(
            "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash(STYLE),
            hash(SCRIPT)
        );
        let policy = HeaderValue::from_str(&policy);
        let policy = policy.unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { html: html.into(), policy }
    }

    pub(super) fn html(&self) -> Bytes {
        self.html.clone()
    }

    pub(super) fn policy(&self) -> HeaderValue {
        self.policy.clone()
    }
}

fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

const FRAME: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = concat!(include_str!("page/way.js"), include_str!("page/report.js"));
const STYLE_MARK: &str = "/*style*/";
const SCRIPT_MARK: &str = "/*script*/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_all_that_it_needs_and_nothing_from_elsewhere() {
        let page = Page::new();
        let html = String::from_utf8(page.html().to_vec()).expect("text");
        assert!(html.contains(STYLE) && html.contains(SCRIPT));
        assert!(!html.contains(STYLE_MARK) && !html.contains(SCRIPT_MARK));
        for other in ["http://", "https://", "@import", "url(", "src=\"", "innerHTML", "eval("] {
            // The name of SVG's elements is no address.
            assert!(!html.replace("http://www.w3.org/2000/svg", "").contains(other), "{other}");
        }
        let policy = page.policy();
        let policy = policy.to_str().expect("text");
        assert!(policy.contains(&hash(SCRIPT)) && policy.contains(&hash(STYLE)), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
