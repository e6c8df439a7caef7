//! What follows `set` and `delete`: a place in the configuration, keys and values.

use super::document::{Document, Target, quoted, quoted_key};
use super::keys::{Key, ROOT, Shape};
use super::near::nearest;
use super::parse::{Choices, Context, tokens};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use toml::de::DeValue;

/// A candidate with the values of `rest` written into it: `interface lan mtu 1400`.
///
/// # Errors
/// What is wrong, in one line.
pub(super) fn set(candidate: &str, rest: &str) -> Result<String, String> {
    let (target, keys, mut rest) = place(rest)?;
    let mut text = candidate.to_string();
    if rest.is_empty() {
        return Err(format!("there is more to say: {}", expected(keys)));
    }
    while !rest.is_empty() {
        let (key, after) = word(rest);
        let key = known(key, keys, &target)?;
        let (value, after) = value(key, after)?;
        text = Document::read(&text)?.set(&target, key.name, &value)?;
        rest = after;
    }
    Ok(text)
}

/// A candidate without what `rest` names: `interface lan mtu`, or `interface lan`.
///
/// # Errors
/// What is wrong, in one line.
pub(super) fn delete(candidate: &str, rest: &str) -> Result<String, String> {
    let (target, keys, rest) = place(rest)?;
    let document = Document::read(candidate)?;
    let (key, after) = word(rest);
    if !after.is_empty() {
        return Err(format!("`{after}` is too much: a key is deleted with its value"));
    }
    if key.is_empty() {
        return match target {
            Target::Table(path) if path.is_empty() => {
                Err(format!("there is more to say: {}", expected(keys)))
            }
            target => document.delete(&target, None),
        };
    }
    document.delete(&target, Some(known(key, keys, &target)?.name))
}

/// The first word, and what comes after it.
fn word(rest: &str) -> (&str, &str) {
    let rest = rest.trim();
    let (word, after) = rest.split_at(rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len()));
    (word.trim_matches('"'), after.trim())
}

/// The place that `rest` begins with, the keys there, and what comes after it.
fn place(mut rest: &str) -> Result<(Target, &'static [Key], &str), String> {
    let (mut path, mut keys) = (Vec::new(), ROOT);
    loop {
        let (first, after) = word(rest);
        let shape = keys.iter().find(|key| key.name == first).map(|key| key.shape);
        let (name, behind) = word(after);
        let inner = match shape {
            Some(Shape::Section(inner) | Shape::Named(inner) | Shape::List(inner)) => inner,
            _ => return Ok((Target::Table(path), keys, rest)),
        };
        path.push(first.to_string());
        if let Some(Shape::Section(_)) = shape {
            (keys, rest) = (inner, after);
            continue;
        }
        if name.is_empty() {
            let what = match (shape, inner.first()) {
                (Some(Shape::List(_)), Some(own)) => own.about,
                _ => "name",
            };
            return Err(format!("there is more to say: the {what} of the {first}"));
        }
        return Ok((named(path, shape, inner, name), inner, behind));
    }
}

/// The section at `path` that is called `name`.
fn named(mut path: Vec<String>, shape: Option<Shape>, keys: &[Key], name: &str) -> Target {
    match (shape, keys.first()) {
        (Some(Shape::List(_)), Some(own)) => {
            Target::Element { path, key: own.name.into(), value: name.into() }
        }
        _ => {
            path.push(name.into());
            Target::Table(path)
        }
    }
}

fn known(word: &str, keys: &'static [Key], target: &Target) -> Result<&'static Key, String> {
    let names = || keys.iter().map(|key| key.name);
    match (keys.iter().find(|key| key.name == word), nearest(word, names())) {
        (Some(key), _) => Ok(key),
        (None, Some(near)) => Err(format!("unknown key `{word}`; did you mean `{near}`?")),
        (None, None) => {
            Err(format!("unknown key `{word}` of {}; expected {}", target.name(), expected(keys)))
        }
    }
}

fn expected(keys: &[Key]) -> String {
    keys.iter().map(|key| format!("`{}`", key.name)).collect::<Vec<_>>().join(", ")
}

/// The value of `key` that `rest` begins with, as TOML, and what comes after it.
fn value<'r>(key: &Key, rest: &'r str) -> Result<(String, &'r str), String> {
    let rest = rest.trim();
    if rest.is_empty() {
        return Err(format!("`{}` wants a value: {}", key.name, shape(key.shape)));
    }
    if rest.starts_with(['[', '{', '"', '\'']) {
        let end = literal(rest);
        let (value, after) = rest.split_at(end);
        return match DeValue::parse(value) {
            Ok(_) if after.is_empty() || after.starts_with(|c: char| c.is_ascii_whitespace()) => {
                Ok((value.into(), after.trim()))
            }
            Ok(_) => Err(format!("`{}` follows the value of `{}` without a blank", after.trim(), key.name)),
            Err(error) => Err(format!("{value} is no value in TOML: {}", error.message())),
        };
    }
    let (word, after) = word(rest);
    let wrong = || format!("`{word}` is no value of `{}`; expected {}", key.name, shape(key.shape));
    let value = match key.shape {
        Shape::Number if word.parse::<u64>().is_ok() => word.into(),
        Shape::Boolean if matches!(word, "true" | "false") => word.into(),
        Shape::Choice(words) if words.contains(&word) => quoted(word),
        Shape::Choice(words) => match nearest(word, words.iter().copied()) {
            Some(near) => return Err(format!("{}; did you mean `{near}`?", wrong())),
            None => return Err(wrong()),
        },
        Shape::Text | Shape::Interface => quoted(word),
        Shape::Texts => {
            let texts: Vec<String> = word.split(',').filter(|text| !text.is_empty()).map(quoted).collect();
            format!("[{}]", texts.join(", "))
        }
        Shape::OneOf(keys) => {
            let inner = known(word, keys, &Target::Table(Vec::from([key.name.to_string()])))?;
            let (value, after) = self::value(inner, after)?;
            return Ok((format!("{{ {} = {value} }}", quoted_key(inner.name)), after));
        }
        Shape::Number | Shape::Boolean | Shape::Section(_) | Shape::Named(_) | Shape::List(_) => {
            return Err(wrong());
        }
    };
    Ok((value, after))
}

/// How long the value in brackets or quotes is that `rest` begins with.
fn literal(rest: &str) -> usize {
    let (mut depth, mut quote, mut escaped) = (0usize, None, false);
    for (at, c) in rest.char_indices() {
        match (quote, c) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), c) if c == open && !escaped => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
        escaped = false;
        if depth == 0 && quote.is_none() {
            return at + c.len_utf8();
        }
    }
    rest.len()
}

fn shape(shape: Shape) -> String {
    match shape {
        Shape::Text => "a text".into(),
        Shape::Number => "a number".into(),
        Shape::Boolean => "`true` or `false`".into(),
        Shape::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Shape::Texts => "texts with commas between, or an array".into(),
        Shape::Interface => "an interface's name".into(),
        Shape::OneOf(keys) | Shape::Section(keys) | Shape::Named(keys) | Shape::List(keys) => expected(keys),
    }
}

/// What could come at the end of `line`; the place begins at `first`. `values`: after a key comes its value.
pub(super) fn choices(line: &str, first: usize, values: bool, context: Context<'_>) -> Choices {
    let all = tokens(line.get(first..).unwrap_or_default());
    let typing = !line.ends_with(|c: char| c.is_ascii_whitespace()) && first < line.len();
    let (start, word, before) = match all.split_last() {
        Some((last, before)) if typing => (first + last.start, last.text, before),
        _ => (line.len(), "", all.as_slice()),
    };
    let mut found = Choices { start, ..Choices::default() };
    let document = Document::read(context.candidate).ok();
    let mut keys = ROOT;
    let mut target = Target::Table(Vec::new());
    let mut path: Vec<String> = Vec::new();
    let mut words = before.iter().map(|token| token.text).peekable();
    while let Some(name) = words.next() {
        let Some(key) = keys.iter().find(|key| key.name == name) else { return found };
        if let Shape::Section(inner) = key.shape {
            path.push(key.name.into());
            target = Target::Table(path.clone());
            keys = inner;
            continue;
        }
        match (key.shape, words.next()) {
            (Shape::Named(inner) | Shape::List(inner), Some(name)) => {
                path.push(key.name.into());
                target = named(path.clone(), Some(key.shape), inner, name);
                keys = inner;
            }
            (Shape::Named(inner) | Shape::List(inner), None) => {
                path.push(key.name.into());
                let own = inner.first().filter(|_| matches!(key.shape, Shape::List(_)));
                let names = document.map(|document| document.names(&path, own.map(|own| own.name)));
                found.offer(names.unwrap_or_default().iter().map(String::as_str), word, "");
                let (hint, about) = match own {
                    Some(own) => (own.name.to_ascii_uppercase(), own.about.to_string()),
                    None => ("NAME".to_string(), format!("the name of the {}", key.name)),
                };
                found.hints.push((hint, about));
                return found;
            }
            (Shape::OneOf(inner), Some(name)) if values => {
                let Some(inner) = inner.iter().find(|key| key.name == name) else { return found };
                if words.next().is_none() {
                    found.values(inner, word, values, context);
                    return found;
                }
            }
            (_, None) => {
                found.values(key, word, values, context);
                return found;
            }
            (_, Some(_)) => {}
        }
    }
    let here = document.map(|document| document.keys(&target)).unwrap_or_default();
    for key in keys.iter().filter(|key| key.name.starts_with(word)) {
        let section = matches!(key.shape, Shape::Named(_) | Shape::List(_) | Shape::Section(_));
        if values || section || here.iter().any(|name| name == key.name) {
            found.add(key.name, key.about);
        }
    }
    let nowhere = target == Target::Table(Vec::new());
    found.whole = word.is_empty() && !nowhere && (!values || before.len() > 2);
    found
}

impl Choices {
    fn offer<'w>(&mut self, words: impl Iterator<Item = &'w str>, begin: &str, help: &str) {
        words.filter(|word| word.starts_with(begin)).for_each(|word| self.add(word, help));
    }

    fn values(&mut self, key: &Key, word: &str, values: bool, context: Context<'_>) {
        if !values {
            self.whole = word.is_empty();
            return;
        }
        match key.shape {
            Shape::Boolean => self.offer(["true", "false"].into_iter(), word, key.about),
            Shape::Choice(words) => self.offer(words.iter().copied(), word, key.about),
            Shape::Interface => self.offer(context.interfaces.iter().map(String::as_str), word, key.about),
            Shape::OneOf(keys) => {
                keys.iter().for_each(|inner| self.offer([inner.name].into_iter(), word, inner.about))
            }
            _ => self.hints.push(("VALUE".into(), format!("{}: {}", shape(key.shape), key.about))),
        }
    }
}

#[cfg(test)]
mod tests;
