//! A piece of a policy's text in one line, with its literals as they are.

/// Longest text that is told, in characters.
const LONGEST: usize = 1_000;

/// Joins lines, drops comments and runs of blanks, but not inside texts. Statements of a body are set apart by `;`.
pub(super) fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut open: Vec<char> = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' | '`' => {
                out.push(c);
                let mut escaped = false;
                for inner in rest.by_ref() {
                    out.push(inner);
                    if inner == c && !escaped {
                        break;
                    }
                    escaped = inner == '\\' && c == '"' && !escaped;
                }
            }
            '#' => while rest.next_if(|c| *c != '\n').is_some() {},
            c if c.is_whitespace() => {
                let mut broken = c == '\n';
                while let Some(next) = rest.peek().copied() {
                    if next == '#' {
                        while rest.next_if(|c| *c != '\n').is_some() {}
                    } else if next.is_whitespace() {
                        broken |= next == '\n';
                        rest.next();
                    } else {
                        break;
                    }
                }
                let (Some(before), Some(after)) = (out.chars().next_back(), rest.peek().copied()) else {
                    continue;
                };
                // Where a line ends inside braces, a statement does, unless it plainly goes on.
                let goes_on = "{([,|;:=<>+-*/%&!.".contains(before) || "})],|=<>+*/%&!.".contains(after);
                if broken && open.last() == Some(&'{') && !goes_on {
                    out.push(';');
                }
                out.push(' ');
            }
            _ => {
                match c {
                    '{' | '(' | '[' => open.push(c),
                    '}' | ')' | ']' => {
                        open.pop();
                    }
                    _ => {}
                }
                out.push(c);
            }
        }
    }
    let out = out.trim();
    match out.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", out.get(..end).unwrap_or_default()),
        None => out.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn texts_are_kept_and_comments_dropped() {
        for (text, line) in [
            ("a  ==\n\t\"b  c\"", "a == \"b  c\""),
            ("x == `a  # b`", "x == `a  # b`"),
            ("x == \"a \\\" # b\"  # no", "x == \"a \\\" # b\""),
            (
                "every s in x {\n\tf(s) # \"quote\n\tnot g(s)\n}",
                "every s in x { f(s); not g(s) }",
            ),
            ("f(\n\ta,\n\tb\n)", "f( a, b )"),
        ] {
            assert_eq!(one_line(text), line);
        }
    }
}
