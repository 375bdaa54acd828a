//! Words in a YAML document: enough to know whether it may hold a secret.

/// Whether a line has this word.
pub(super) fn has(line: &str, word: &str) -> bool {
    line.split(|c| !inside(c)).any(|found| found == word)
}

/// Whether a text is one word and nothing else.
pub(super) fn is_one(text: &str) -> bool {
    !text.is_empty() && text.chars().all(inside)
}

/// What names are made of.
fn inside(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/')
}
