//! Columns: Go's elastic tabs (source: Go `text/tabwriter`; docker/cli `cli/command/formatter/tabwriter`).

use super::text::width;

/// How columns are set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tabs {
    /// Least width of a column.
    pub(crate) min: usize,
    /// Space behind the widest cell.
    pub(crate) padding: usize,
}

impl Tabs {
    /// The tables of lists.
    pub(crate) const LIST: Self = Self { min: 10, padding: 3 };
}

/// Sets a text whose cells end with tabs. A column is as wide as its widest cell in lines that follow each
/// other; the last cell of a line belongs to no column.
pub(crate) fn align(text: &str, tabs: Tabs) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut out = String::with_capacity(text.len() * 2);
    let mut widths = Vec::new();
    block(&lines, tabs, &mut widths, &mut out);
    // `split` sees one more line behind the last line's end.
    out.pop();
    out
}

/// Sets lines whose first `widths.len()` columns are known.
fn block(lines: &[Vec<&str>], tabs: Tabs, widths: &mut Vec<usize>, out: &mut String) {
    let column = widths.len();
    let mut at = 0;
    while at < lines.len() {
        let has_column = |line: &Vec<&str>| column + 1 < line.len();
        if !has_column(&lines[at]) {
            line(&lines[at], widths, out);
            at += 1;
            continue;
        }
        let end = at + lines[at..].iter().take_while(|line| has_column(line)).count();
        let widest = lines[at..end].iter().map(|line| width(line[column])).max().unwrap_or(0);
        widths.push((widest + tabs.padding).max(tabs.min));
        block(&lines[at..end], tabs, widths, out);
        widths.pop();
        at = end;
    }
}

fn line(cells: &[&str], widths: &[usize], out: &mut String) {
    for (at, cell) in cells.iter().enumerate() {
        out.push_str(cell);
        if at + 1 < cells.len() {
            let column = widths.get(at).copied().unwrap_or(0);
            out.extend(std::iter::repeat_n(' ', column.saturating_sub(width(cell))));
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let text = "ID\tNAMES\tSTATUS\nabcdefghijkl\tweb\tUp\n1\t\tExited\n";
        let set = align(text, Tabs::LIST);
        assert_eq!(
            set,
            "ID             NAMES     STATUS\nabcdefghijkl   web       Up\n1                        Exited\n"
        );
        assert_eq!(align("a\tb", Tabs { min: 20, padding: 1 }), "a                   b");
        assert_eq!(align("x: 1\ny:\t2\n", Tabs { min: 4, padding: 1 }), "x: 1\ny:  2\n");
        assert_eq!(align("", Tabs::LIST), "");
    }
}
