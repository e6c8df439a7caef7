//! The model: types whose fields have a name, a documentation and a value. Text, JSON, the API's schemas and the
//! reference page are all made from that one list, so that none can show what another lacks.

mod macros;
mod types;

pub use types::*;

use alloc::string::String;
use alloc::vec::Vec;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// A record of the model.
#[derive(Debug)]
pub struct Type {
    /// Its name, such as `Interface`.
    pub name: &'static str,
    /// What one stands for.
    pub doc: &'static str,
    /// Its fields, in the order in which every face shows them.
    pub fields: &'static [FieldType],
}

/// A field of a record.
#[derive(Debug)]
pub struct FieldType {
    /// Its name: the key in JSON, the head in text.
    pub name: &'static str,
    /// What it says, with its unit.
    pub doc: &'static str,
    /// What its values look like.
    pub schema: Schema,
}

/// What values look like.
#[derive(Clone, Copy, Debug)]
pub enum Schema {
    /// Yes or no.
    Boolean,
    /// From 0 on.
    Integer,
    /// Text.
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// Texts.
    Texts,
    /// A value, or none.
    Optional(&'static Schema),
    /// A record within the record.
    Record(&'static Type),
    /// Records of one type.
    Table(&'static Type),
}

/// A value of the model. Records have a value for each field of their type, in its order.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// There is none.
    Null,
    /// Yes or no.
    Boolean(bool),
    /// A number.
    Integer(u64),
    /// Text.
    Text(&'a str),
    /// Texts.
    Texts(&'a [String]),
    /// A record.
    Record(&'static Type, Vec<Value<'a>>),
    /// Records.
    Table(&'static Type, Vec<Vec<Value<'a>>>),
}

/// A type of the model.
pub trait Model {
    /// Its name and fields.
    const TYPE: &'static Type;

    /// A value for each field.
    fn values(&self) -> Vec<Value<'_>>;
}

/// What can be the value of a field.
pub trait Field {
    /// What its values look like.
    const SCHEMA: Schema;

    /// The value.
    fn value(&self) -> Value<'_>;
}

impl Field for bool {
    const SCHEMA: Schema = Schema::Boolean;

    fn value(&self) -> Value<'_> {
        Value::Boolean(*self)
    }
}

macro_rules! integers {
    ($($integer:ty)+) => { $(
        impl Field for $integer {
            const SCHEMA: Schema = Schema::Integer;

            fn value(&self) -> Value<'_> {
                Value::Integer(u64::from(*self))
            }
        }
    )+ };
}

integers!(u16 u32 u64);

impl Field for String {
    const SCHEMA: Schema = Schema::Text;

    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl Field for Vec<String> {
    const SCHEMA: Schema = Schema::Texts;

    fn value(&self) -> Value<'_> {
        Value::Texts(self)
    }
}

impl<F: Field> Field for Option<F> {
    const SCHEMA: Schema = Schema::Optional(&F::SCHEMA);

    fn value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, F::value)
    }
}

impl<M: Model> Field for Vec<M> {
    const SCHEMA: Schema = Schema::Table(M::TYPE);

    fn value(&self) -> Value<'_> {
        Value::Table(M::TYPE, self.iter().map(M::values).collect())
    }
}

impl<M: Model> Field for M {
    const SCHEMA: Schema = Schema::Record(M::TYPE);

    fn value(&self) -> Value<'_> {
        Value::Record(M::TYPE, self.values())
    }
}

/// Fields of one record, for serde.
struct Fields<'v>(&'static Type, &'v [Value<'v>]);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Fields(of, values) = self;
        let mut map = serializer.serialize_map(Some(values.len()))?;
        for (field, value) in of.fields.iter().zip(*values) {
            map.serialize_entry(field.name, value)?;
        }
        map.end()
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_none(),
            Value::Boolean(value) => serializer.serialize_bool(*value),
            Value::Integer(value) => serializer.serialize_u64(*value),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Texts(texts) => serializer.collect_seq(*texts),
            Value::Record(of, values) => Fields(of, values).serialize(serializer),
            Value::Table(of, rows) => {
                let mut list = serializer.serialize_seq(Some(rows.len()))?;
                for row in rows {
                    list.serialize_element(&Fields(of, row))?;
                }
                list.end()
            }
        }
    }
}

/// A value as JSON.
pub fn json(value: &Value<'_>) -> Vec<u8> {
    // Serialisation to memory of maps with text keys cannot fail.
    serde_json::to_vec(value).unwrap_or_default()
}
