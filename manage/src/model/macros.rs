//! How a type of the model is written: as a struct with documentation, from which its fields' list is made.

/// Makes structs, and with each its [`Type`](super::Type) and its serialisation.
macro_rules! model {
    ($(
        $(#[doc = $about:literal])+
        pub struct $Name:ident {
            $($(#[doc = $doc:literal])+ $field:ident: $Field:ty,)+
        }
    )+) => { $(
        $(#[doc = $about])+
        #[derive(Clone, PartialEq, Eq, Debug, Default)]
        pub struct $Name {
            $($(#[doc = $doc])+ pub $field: $Field,)+
        }

        impl Model for $Name {
            const TYPE: &'static Type = &Type {
                name: stringify!($Name),
                doc: concat!($($about),+),
                fields: &[$(FieldType {
                    name: stringify!($field),
                    doc: concat!($($doc),+),
                    schema: <$Field as Field>::SCHEMA,
                },)+],
            };

            fn values(&self) -> Vec<Value<'_>> {
                // One by one: a `vec!` of dozens would be built on the stack first.
                let mut values = Vec::with_capacity(Self::TYPE.fields.len());
                $(values.push(Field::value(&self.$field));)+
                values
            }
        }

        impl serde::Serialize for $Name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.value().serialize(serializer)
            }
        }
    )+

        /// All types, in the order of the reference page.
        pub const TYPES: &[&Type] = &[$($Name::TYPE),+];
    };
}

/// Makes enums whose values are words.
macro_rules! choices {
    ($(
        $(#[doc = $about:literal])+
        pub enum $Name:ident {
            $($(#[doc = $doc:literal])+ $Variant:ident = $word:literal,)+
        }
    )+) => { $(
        $(#[doc = $about])+
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub enum $Name {
            #[default]
            $($(#[doc = $doc])+ $Variant,)+
        }

        impl $Name {
            /// The word that every face shows.
            pub const fn word(self) -> &'static str {
                match self { $($Name::$Variant => $word,)+ }
            }
        }

        impl core::fmt::Display for $Name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.pad(self.word())
            }
        }

        impl Field for $Name {
            const SCHEMA: Schema = Schema::Choice(&[$($word),+]);

            fn value(&self) -> Value<'_> {
                Value::Text(self.word())
            }
        }
    )+ };
}

pub(crate) use {choices, model};
