//! The reference page of the model, for `docs`.

use crate::model::{FieldType, Schema, TYPES, Type};
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Write;

const HEAD: &str = "\
# The model

What the router tells of itself, on the console, in JSON and on its page: the same records with the same fields, in this \
order. Counters count since boot. This page is made from the types in `manage/src/model/types.rs`, by \
`cargo run --package weir-manage --example reference > docs/model.md`.
";

/// The page, in Markdown.
pub fn page() -> String {
    let mut page = String::from(HEAD);
    for of in TYPES {
        let _ =
            write!(page, "\n## {}\n\n{}\n\n| Field | Value | Meaning |\n|---|---|---|\n", of.name, of.doc());
        for field in of.fields {
            let _ = writeln!(page, "| `{}` | {} | {} |", field.name, shape(&field.schema), field.doc());
        }
    }
    page
}

impl Type {
    /// Its documentation without the blanks around it.
    pub fn doc(&self) -> &'static str {
        self.doc.trim()
    }
}

impl FieldType {
    /// Its documentation without the blanks around it.
    pub fn doc(&self) -> &'static str {
        self.doc.trim()
    }
}

fn shape(schema: &Schema) -> String {
    match schema {
        Schema::Boolean => "yes or no".into(),
        Schema::Integer => "number".into(),
        Schema::Text => "text".into(),
        Schema::Texts => "texts".into(),
        Schema::Choice(words) => {
            words.iter().map(|word| format!("`{word}`")).collect::<alloc::vec::Vec<_>>().join(", ")
        }
        Schema::Optional(schema) => format!("{}, or none", shape(schema)),
        Schema::Record(of) => link(of),
        Schema::Table(of) => format!("list of {}", link(of)),
    }
}

fn link(of: &Type) -> String {
    format!("[{}](#{})", of.name, of.name.to_string().to_lowercase())
}
