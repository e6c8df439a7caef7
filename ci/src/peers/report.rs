//! What was measured: tables on the terminal, the same in docs/performance, a file for programs, plots.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::samples::Figure;

/// A table as people read it.
#[derive(Debug, Default)]
pub(super) struct Table {
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(title: &str, head: &[&str]) -> Table {
        let head = head.iter().map(|&name| name.to_owned()).collect();
        Table { title: title.to_owned(), head, rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: &[&str]) {
        self.rows.push(cells.iter().map(|&cell| cell.to_owned()).collect());
    }

    /// Columns of the terminal. Words stand left, numbers right.
    pub(super) fn text(&self) -> String {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column: usize| {
            let cells = lines().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let is_number = |column: usize| {
            let mut cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.all(|cell| cell.chars().all(|c| c.is_ascii_digit() || "+-–.() kM".contains(c)))
        };
        let numbers: Vec<bool> = (0..self.head.len()).map(is_number).collect();
        let mut text = format!("{}\n", self.title);
        for line in lines() {
            let mut padded = String::from(" ");
            for (column, cell) in line.iter().enumerate() {
                let pad = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
                let (left, right) = if numbers[column] { (pad.as_str(), "") } else { ("", pad.as_str()) };
                let _ = write!(padded, " {left}{cell}{right} ");
            }
            let _ = writeln!(text, "{}", padded.trim_end());
        }
        text
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = format!("**{}**\n\n", self.title);
        let _ = writeln!(text, "| {} |", self.head.join(" | "));
        let _ = writeln!(text, "|{}", "---|".repeat(self.head.len()));
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        text
    }
}

/// All that a command measured.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// In Markdown, in order.
    parts: Vec<String>,
    /// What, in which case, whose, in which unit, quickest and median: for programs.
    measures: Vec<[String; 6]>,
}

impl Report {
    /// Prints a table and keeps it.
    pub(super) fn table(&mut self, table: &Table) {
        println!("{}", table.text());
        self.parts.push(table.markdown());
    }

    /// Prints a table and keeps it before all others.
    pub(super) fn summary(&mut self, table: &Table) {
        println!("{}", table.text());
        self.parts.insert(0, table.markdown());
    }

    /// Prints what a program printed and keeps it.
    pub(super) fn output(&mut self, title: &str, text: &str) {
        println!("{title}\n{text}");
        self.parts.push(format!("**{title}**\n\n```\n{}\n```\n", text.trim()));
    }

    pub(super) fn measure(&mut self, [what, case, whose, unit]: [&str; 4], figure: Figure) {
        let numbers = [figure.best, figure.median].map(|number| format!("{number:.2}"));
        let [best, median] = numbers;
        self.measures.push([what.into(), case.into(), whose.into(), unit.into(), best, median]);
    }

    pub(super) fn tsv(&self) -> String {
        let mut text = String::from("what\tcase\twhose\tunit\tbest\tmedian\n");
        for measure in &self.measures {
            let _ = writeln!(text, "{}", measure.join("\t"));
        }
        text
    }

    /// All of it, below `introduction`.
    pub(super) fn markdown(&self, introduction: &str) -> String {
        format!("{introduction}\n\n{}", self.parts.join("\n"))
    }
}

/// Replaces what stands between `<!-- name -->` and `<!-- end of name -->` in a file.
pub(super) fn replace(file: &Path, name: &str, content: &str) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let replaced = replaced(&text, name, content)
        .with_context(|| format!("{} has no <!-- {name} --> and <!-- end of {name} -->", file.display()))?;
    std::fs::write(file, replaced).with_context(|| format!("writing {}", file.display()))
}

fn replaced(text: &str, name: &str, content: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{}\n\n{end}{after}", content.trim()))
}

/// Bars of two programs side by side.
pub(super) fn plot(title: &str, cases: &[(String, f64, f64)]) -> String {
    let most = cases.iter().map(|(_, ours, theirs)| ours.max(*theirs)).fold(1.0, f64::max);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"680\" height=\"{}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"20\">{title}</text>\n",
        44 + 44 * cases.len()
    );
    for (row, (case, ours, theirs)) in cases.iter().enumerate() {
        let y = 36 + 44 * row;
        let _ = writeln!(svg, "<text x=\"10\" y=\"{}\">{case}</text>", y + 20);
        for (at, name, value, color) in [(0, "Weir", ours, "#c0504d"), (17, "DPDK", theirs, "#4f81bd")] {
            let width = value / most * 350.0;
            let _ = writeln!(
                svg,
                "<rect x=\"220\" y=\"{}\" width=\"{width:.0}\" height=\"15\" fill=\"{color}\"/>\
                 <text x=\"{:.0}\" y=\"{}\">{name} {value:.1}</text>",
                y + at,
                225.0 + width,
                y + at + 12
            );
        }
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned() {
        let mut table = Table::new("work", &["case", "cycles"]);
        table.row(&["one", "9.5"]);
        table.row(&["another", "100.0"]);
        assert_eq!(table.text(), "work\n  case     cycles\n  one         9.5\n  another   100.0\n");
        assert!(
            table.markdown().ends_with("| case | cycles |\n|---|---|\n| one | 9.5 |\n| another | 100.0 |\n")
        );
    }

    #[test]
    fn a_part_of_a_file_is_replaced_and_nothing_else() {
        let text = "a\n<!-- x -->\nold\n<!-- end of x -->\nb\n";
        let new = replaced(text, "x", "new").unwrap();
        assert_eq!(new, "a\n<!-- x -->\n\nnew\n\n<!-- end of x -->\nb\n");
        assert_eq!(replaced(&new, "x", "new").unwrap(), new, "the same again");
        assert!(replaced(text, "y", "new").is_none());
    }
}
