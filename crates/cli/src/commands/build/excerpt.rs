//! The lines of a Dockerfile around an error (source: buildkit `solver/errdefs/source.go`).

use wharf_dockerfile::Dockerfile;

/// Lines before and behind that are shown.
const AROUND: usize = 2;

/// The excerpt, or nothing where no line is known: that of the error's words, else of the step that failed.
pub(super) fn of(dockerfile: &str, name: &str, message: &str, step: (&str, usize)) -> String {
    let Some((start, end)) = line_of(message).map(|line| (line, line)).or_else(|| lines_of(dockerfile, step))
    else {
        return String::new();
    };
    let lines: Vec<&str> = dockerfile.split('\n').collect();
    around(&lines, name, start, end, &"-".repeat(20))
}

/// The lines from `start` to `end`, marked, and some around them; nothing when there are no such lines.
pub(super) fn around(lines: &[&str], name: &str, start: usize, end: usize, rule: &str) -> String {
    if start == 0 || end > lines.len() {
        return String::new();
    }
    let (first, last) = (start.saturating_sub(AROUND).max(1), (end + AROUND).min(lines.len()));
    let mut out = format!("{name}:{start}\n{rule}\n");
    for number in first..=last {
        let mark = if (start..=end).contains(&number) { ">>>" } else { "   " };
        out.push_str(&format!(" {number:3} | {mark} {}\n", lines[number - 1].trim_end_matches('\r')));
    }
    out + rule + "\n"
}

/// `... on line 3: ...`, `... line 3: ...`
fn line_of(message: &str) -> Option<usize> {
    let lower = message.to_ascii_lowercase();
    let at = lower.find("parse error")?;
    let rest = &lower[at + lower[at..].find("line ")? + 5..];
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

/// The first and last line of a stage's step, counted from 1; without a name, of all, as the classic builder counts.
fn lines_of(dockerfile: &str, (stage, step): (&str, usize)) -> Option<(usize, usize)> {
    let index = step.checked_sub(1)?;
    let read = wharf_dockerfile::lines(dockerfile).ok()?;
    if stage.is_empty() {
        return read.lines.get(index).map(|line| (line.start, line.end));
    }
    let file = Dockerfile::parse(dockerfile).ok()?;
    let named = file.stages.iter().find(|one| one.name.as_deref() == Some(stage));
    let stage = match named {
        Some(stage) => stage,
        None => file.stages.get(stage.strip_prefix("stage-")?.parse::<usize>().ok()?)?,
    };
    let start = match index {
        0 => stage.line,
        index => stage.steps.get(index - 1)?.line,
    };
    read.lines.iter().find(|line| line.start == start).map(|line| (line.start, line.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failed_lines_are_marked() {
        let text = "FROM busybox\n# why\nRUN false \\\n  && true\nCMD x\nCMD y\n";
        let expected = "Dockerfile:3\n--------------------\n   1 |     FROM busybox\n   2 |     # why\n   3 | >>> RUN false \\\n   4 | >>>   && true\n   5 |     CMD x\n   6 |     CMD y\n--------------------\n";
        assert_eq!(of(text, "Dockerfile", "x returned a non-zero code: 1", ("", 2)), expected);
        let staged = format!("FROM x AS a\n{text}");
        let lines = |stage: &str, step| lines_of(&staged, (stage, step));
        assert_eq!(
            [lines("a", 1), lines("stage-1", 1), lines("stage-1", 2)],
            [Some((1, 1)), Some((2, 2)), Some((4, 5))]
        );
        assert_eq!((lines("nosuch", 1), lines("stage-9", 1), lines("a", 2)), (None, None, None));
        let parse = of(text, "f", "dockerfile parse error on line 6: unknown instruction: X", ("", 0));
        assert!(parse.starts_with("f:6\n") && parse.contains("   6 | >>> CMD y\n   7 |     \n"), "{parse}");
        assert_eq!(of(text, "f", "no such image", ("", 0)), "");
        assert_eq!(of("", "f", "parse error line 9", ("", 4)), "");
    }
}
