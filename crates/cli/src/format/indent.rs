//! JSON laid out anew, everything else as it was (Go: `json.Indent`).

/// What happens to `<`, `>` and `&` in texts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escape {
    /// They stay.
    No,
    /// They are escaped, as Go's `json.Marshal` does.
    Html,
}

/// One member or element a line, each level deeper by `step`. Keys keep their order.
pub(crate) fn indent(text: &str, step: &str, escape: Escape) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0usize;
    let mut chars = text.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        (0..depth).for_each(|_| out.push_str(step));
    };
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                out.push('"');
                while let Some(c) = chars.next() {
                    match c {
                        '<' | '>' | '&' if escape == Escape::Html => {
                            out.push_str(&format!("\\u{:04x}", u32::from(c)));
                        }
                        c => out.push(c),
                    }
                    match c {
                        '\\' => out.extend(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(close) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_changes_and_nothing_else() {
        let text = "{ \"b\":[1,\n2 , { }],\"a\":\"x, \\\"<y>\\\": {\" ,\"c\":[ ]}";
        let laid_out =
            "{\n\t\"b\": [\n\t\t1,\n\t\t2,\n\t\t{}\n\t],\n\t\"a\": \"x, \\\"<y>\\\": {\",\n\t\"c\": []\n}";
        assert_eq!(indent(text, "\t", Escape::No), laid_out);
        let escaped = laid_out.replace("<y>", "\\u003cy\\u003e");
        assert_eq!(indent(laid_out, "\t", Escape::Html), escaped);
    }
}
