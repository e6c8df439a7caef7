//! Tokens of the API: the section `[management]`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use weir_manage::token::Hash;

use super::MAX_TOKENS;
use super::errors::{Finding, Path, Report, quoted};
use super::keys;
use super::read::{Section, add};
use super::types::Token;
use super::value::{self, Parsed, Problem};

/// All `[[management.token]]`.
pub(super) fn read(root: &Section, report: &mut Report) -> Vec<Token> {
    let path = root.path.key("management");
    let Some(value) = root.table.get("management") else { return Vec::new() };
    let DeValue::Table(table) = value.get_ref() else {
        let problem = Problem::expected(value.get_ref(), "a section");
        let help = "an interface offers management by management = true in its section; tokens are in [[management.token]]";
        add(report, value.span(), &path, problem.help(help));
        return Vec::new();
    };
    let section = Section { path: &path, span: value.span(), table };
    section.report_unknown(keys::MANAGEMENT, report);
    let path = section.path.key("token");
    let Some(value) = table.get("token") else { return Vec::new() };
    let DeValue::Array(array) = value.get_ref() else {
        let problem = Problem::expected(value.get_ref(), "a section for each token");
        add(report, value.span(), &path, problem.help("write [[management.token]], in double brackets"));
        return Vec::new();
    };
    if let Some(value) = array.get(MAX_TOKENS) {
        let message = format!("found {} tokens, expected at most {MAX_TOKENS}", array.len());
        report.add(Finding::at(value.span(), &path, message));
    }
    let mut tokens: Vec<Token> = Vec::new();
    for (index, value) in array.iter().enumerate().take(MAX_TOKENS) {
        let path = Path::Index(&path, index);
        if let Some(token) = read_token(&path, value, report) {
            if tokens.iter().any(|other| other.name == token.name) {
                let message = format!("the name {} is another token's already", quoted(&token.name));
                report.add(Finding::at(value.span(), path.key("name"), message));
            }
            tokens.push(token);
        }
    }
    tokens
}

fn read_token(path: &Path, value: &Spanned<DeValue>, report: &mut Report) -> Option<Token> {
    let DeValue::Table(table) = value.get_ref() else {
        add(report, value.span(), path, Problem::expected(value.get_ref(), "a token's section"));
        return None;
    };
    let section = Section { path, span: value.span(), table };
    section.report_unknown(keys::TOKEN, report);
    let name = section.read("name", report, name);
    let hash = section.read("hash", report, hash);
    missing(
        &section,
        table,
        "name",
        "add name = \"NAME\": the log and the history call its bearer so",
        report,
    );
    missing(&section, table, "hash", "add hash = \"...\", as weir-check --hash-token prints it", report);
    Some(Token { name: name?.into_inner(), hash: hash?.into_inner() })
}

fn missing(section: &Section, table: &DeTable, key: &str, help: &str, report: &mut Report) {
    if !table.contains_key(key) && !section.intends(key, keys::TOKEN) {
        let message = format!("{key} is missing");
        report.add(Finding::at(section.span.clone(), section.path, message).help(help));
    }
}

fn name(value: &DeValue) -> Parsed<String> {
    let name = value::string(value, "a token's name")?;
    value::interface_name(name)?;
    if name == "console" {
        return Err(Problem::new(
            "\"console\" is the name of the token that the console gives out".to_string(),
        ));
    }
    Ok(name.to_string())
}

fn hash(value: &DeValue) -> Parsed<Hash> {
    let text = value::string(value, "a token's hash")?;
    Hash::parse(text).map_err(|wrong| {
        let help = "a token itself is never in the configuration: weir-check --hash-token reads it and prints its hash";
        Problem::new(wrong).help(help)
    })
}
