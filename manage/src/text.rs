//! The model as text, for people: the same fields as in JSON, in the same order.

use crate::model::{Type, Value};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// Columns of a table that is still readable; a wider one is shown as a block for each record.
const WIDEST: usize = 120;

/// A value as text of whole lines.
pub struct Text<'v>(pub &'v Value<'v>);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Record(of, values) => block(f, of, values, 0),
            Value::Table(of, rows) => table(f, of, rows, 0),
            value => writeln!(f, "{}", cell(value)),
        }
    }
}

/// A value in one word, or in some with commas between.
fn cell(value: &Value<'_>) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Boolean(true) => "yes".into(),
        Value::Boolean(false) => "no".into(),
        Value::Integer(number) => number.to_string(),
        Value::Text("") => "-".into(),
        Value::Text(text) => (*text).into(),
        Value::Texts([]) => "-".into(),
        Value::Texts(texts) => texts.join(","),
        Value::Record(..) | Value::Table(..) => String::new(),
    }
}

/// Whether a value needs lines of its own.
fn is_long(value: &Value<'_>) -> bool {
    match value {
        Value::Record(..) | Value::Table(..) => true,
        Value::Text(text) => text.contains('\n'),
        _ => false,
    }
}

/// A line a field; what needs several is indented below its name.
fn block(f: &mut fmt::Formatter<'_>, of: &Type, values: &[Value<'_>], indent: usize) -> fmt::Result {
    let width = of.fields.iter().map(|field| field.name.len()).max().unwrap_or(0);
    for (field, value) in of.fields.iter().zip(values) {
        if !is_long(value) {
            writeln!(f, "{:indent$}{:<width$}  {}", "", field.name, cell(value))?;
            continue;
        }
        writeln!(f, "{:indent$}{}", "", field.name)?;
        let indent = indent + 2;
        match value {
            Value::Record(of, values) => block(f, of, values, indent)?,
            Value::Table(of, rows) => table(f, of, rows, indent)?,
            Value::Text(text) => text.lines().try_for_each(|line| writeln!(f, "{:indent$}{line}", ""))?,
            _ => {}
        }
    }
    Ok(())
}

/// A head and a row a record, if that is narrow enough; else a block each.
fn table(f: &mut fmt::Formatter<'_>, of: &Type, rows: &[Vec<Value<'_>>], indent: usize) -> fmt::Result {
    let cells: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let width = |column: usize, name: &str| {
        let widest = cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        widest.unwrap_or(0).max(name.len())
    };
    let widths: Vec<usize> =
        of.fields.iter().enumerate().map(|(column, field)| width(column, field.name)).collect();
    let whole = indent + widths.iter().map(|width| width + 2).sum::<usize>();
    if !rows.is_empty() && (whole > WIDEST || rows.iter().flatten().any(is_long)) {
        for (number, row) in rows.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            block(f, of, row, indent)?;
        }
        return Ok(());
    }
    let is_number = |column: usize| {
        rows.first().and_then(|row| row.get(column)).is_some_and(|value| matches!(value, Value::Integer(_)))
    };
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for ((column, cell), width) in cells.enumerate().zip(&widths) {
            let _ = match is_number(column) {
                true => write!(text, "{cell:>width$}  "),
                false => write!(text, "{cell:<width$}  "),
            };
        }
        writeln!(f, "{:indent$}{}", "", text.trim_end())
    };
    line(&mut of.fields.iter().map(|field| field.name))?;
    cells.iter().try_for_each(|row| line(&mut row.iter().map(String::as_str)))
}
