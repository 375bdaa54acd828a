//! Words in a YAML document: enough to point at one, whatever style it is written in.

/// Line and column, from 1, of a word that a member says; of the member's key, if it does not say it so.
///
/// The member's value reaches up to the next key: that the same word stands elsewhere, or begins another
/// word, misleads nobody.
pub(super) fn place<'a>(
    lines: impl Iterator<Item = (&'a str, usize)>,
    member: &str,
    said: &str,
) -> Option<(usize, usize)> {
    let (mut inside, mut key) = (false, None);
    for (line, number) in lines {
        let line = uncommented(line);
        for (at, word) in words(line) {
            let here = || Some((number, line.get(..at)?.chars().count() + 1));
            if is_key(line.get(at + word.len()..).unwrap_or_default()) {
                inside = word == member;
                if inside && key.is_none() {
                    key = here();
                }
            } else if inside && word == said {
                return here();
            }
        }
    }
    key
}

/// Whether a line has this word.
pub(super) fn has(line: &str, word: &str) -> bool {
    words(line).any(|(_, found)| found == word)
}

/// Whether a text is one word and nothing else.
pub(super) fn is_one(text: &str) -> bool {
    !text.is_empty() && text.chars().all(inside)
}

/// What names are made of.
fn inside(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/')
}

/// The words of a line with their places in bytes.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut next = 0;
    // Each piece ends with the one character that it was split at.
    line.split_inclusive(|c| !inside(c)).filter_map(move |piece| {
        let at = next;
        next += piece.len();
        let word = piece.trim_end_matches(|c| !inside(c));
        (!word.is_empty()).then_some((at, word))
    })
}

/// Whether what follows a word makes it a key.
fn is_key(after: &str) -> bool {
    let unquoted = after.strip_prefix(['"', '\'']);
    let Some(value) = unquoted.unwrap_or(after).trim_start().strip_prefix(':') else {
        return false;
    };
    // After a quoted key, as in JSON, no space is needed.
    unquoted.is_some() || value.is_empty() || value.starts_with([' ', '\t'])
}

/// A line without its comment.
fn uncommented(line: &str) -> &str {
    let begins = |at: usize| at == 0 || line.get(..at).is_some_and(|before| before.ends_with([' ', '\t']));
    let comment = line.match_indices('#').find(|(at, _)| begins(*at));
    comment.and_then(|(at, _)| line.get(..at)).unwrap_or(line)
}
