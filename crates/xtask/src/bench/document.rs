//! `docs/performance.md`: one section for each bench, so that none overwrites what another measured.

use anyhow::Result;

const PATH: &str = "docs/performance.md";

/// Replaces a bench's section, or appends it.
pub(super) fn put(bench: &str, section: &str) -> Result<()> {
    let old = std::fs::read_to_string(PATH)?;
    Ok(std::fs::write(PATH, replaced(&old, bench, section))?)
}

fn replaced(old: &str, bench: &str, section: &str) -> String {
    let (start, end) = (format!("<!-- bench {bench} -->\n"), format!("<!-- end of {bench} -->\n"));
    let section = format!("{start}{}\n{end}", section.trim_end());
    let place = old.find(&start).and_then(|from| Some((from, from + old[from..].find(&end)? + end.len())));
    match place {
        Some((from, to)) => format!("{}{section}{}", &old[..from], &old[to..]),
        None => format!("{}\n\n{section}", old.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_replaces_itself_alone() {
        let one = replaced("# Performance\n", "one", "1\n");
        let both = replaced(&one, "two", "2");
        let again = replaced(&both, "one", "3");
        let text = "# Performance\n\n<!-- bench one -->\n3\n<!-- end of one -->\n\n<!-- bench two -->\n2\n<!-- end of two -->\n";
        assert_eq!(again, text);
    }
}
