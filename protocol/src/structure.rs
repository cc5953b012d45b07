//! Structures of flexible messages of one version, from a list of their fields in order.

use anyhow::{Context, Result, bail};
use bytes::BufMut;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::protocol::buf::ByteBuf;

use crate::compact::{elements, get_string, put_length, put_string};

/// A type of Kafka's message definitions in the compact encoding.
pub(crate) trait Field: Sized {
    fn put<B: BufMut>(&self, out: &mut B);
    fn get<B: ByteBuf>(body: &mut B) -> Result<Self>;
}

/// One that may be null.
pub(crate) trait Nullable: Sized {
    fn put_nullable<B: BufMut>(value: Option<&Self>, out: &mut B);
    fn get_nullable<B: ByteBuf>(body: &mut B) -> Result<Option<Self>>;
}

macro_rules! numbers {
    ($($type:ty: $put:ident, $get:ident;)*) => {$(
        impl Field for $type {
            fn put<B: BufMut>(&self, out: &mut B) {
                out.$put(*self);
            }

            fn get<B: ByteBuf>(body: &mut B) -> Result<Self> {
                Ok(body.$get()?)
            }
        }
    )*};
}

numbers! {
    i8: put_i8, try_get_i8;
    i16: put_i16, try_get_i16;
    u16: put_u16, try_get_u16;
    i32: put_i32, try_get_i32;
    i64: put_i64, try_get_i64;
}

impl Field for bool {
    fn put<B: BufMut>(&self, out: &mut B) {
        out.put_u8((*self).into());
    }

    fn get<B: ByteBuf>(body: &mut B) -> Result<Self> {
        Ok(body.try_get_u8()? != 0)
    }
}

impl Field for StrBytes {
    fn put<B: BufMut>(&self, out: &mut B) {
        put_string(out, Some(self));
    }

    fn get<B: ByteBuf>(body: &mut B) -> Result<Self> {
        get_string(body)?.context("a string is null")
    }
}

impl Nullable for StrBytes {
    fn put_nullable<B: BufMut>(value: Option<&Self>, out: &mut B) {
        put_string(out, value.map(|text| &text[..]));
    }

    fn get_nullable<B: ByteBuf>(body: &mut B) -> Result<Option<Self>> {
        get_string(body)
    }
}

impl<T: Field> Field for Vec<T> {
    fn put<B: BufMut>(&self, out: &mut B) {
        put_length(out, self.len());
        self.iter().for_each(|element| element.put(out));
    }

    fn get<B: ByteBuf>(body: &mut B) -> Result<Self> {
        Self::get_nullable(body)?.context("an array is null")
    }
}

impl<T: Field> Nullable for Vec<T> {
    fn put_nullable<B: BufMut>(value: Option<&Self>, out: &mut B) {
        match value {
            Some(elements) => elements.put(out),
            None => out.put_u8(0),
        }
    }

    fn get_nullable<B: ByteBuf>(body: &mut B) -> Result<Option<Self>> {
        elements(body, T::get)
    }
}

impl<T: Nullable> Field for Option<T> {
    fn put<B: BufMut>(&self, out: &mut B) {
        T::put_nullable(self.as_ref(), out);
    }

    fn get<B: ByteBuf>(body: &mut B) -> Result<Self> {
        T::get_nullable(body)
    }
}

/// Whether a structure that may be null follows.
pub(crate) fn get_presence(body: &mut impl ByteBuf) -> Result<bool> {
    match body.try_get_i8()? {
        -1 => Ok(false),
        1 => Ok(true),
        other => bail!("a structure begins with {other}"),
    }
}

/// Declares structures whose fields are in the order of the wire.
macro_rules! structures {
    ($($(#[$about:meta])* pub struct $name:ident { $($(#[$doc:meta])* pub $field:ident: $type:ty,)* })*) => {$(
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$doc])* pub $field: $type,)* }

        impl $crate::structure::Field for $name {
            fn put<B: bytes::BufMut>(&self, out: &mut B) {
                $(self.$field.put(out);)*
                $crate::compact::put_no_tags(out);
            }

            fn get<B: kafka_protocol::protocol::buf::ByteBuf>(body: &mut B) -> anyhow::Result<Self> {
                let structure = $name { $($field: $crate::structure::Field::get(body)?,)* };
                $crate::compact::skip_tags(body)?;
                Ok(structure)
            }
        }

        impl $crate::structure::Nullable for $name {
            fn put_nullable<B: bytes::BufMut>(value: Option<&Self>, out: &mut B) {
                match value {
                    Some(structure) => {
                        out.put_i8(1);
                        $crate::structure::Field::put(structure, out);
                    }
                    None => out.put_i8(-1),
                }
            }

            fn get_nullable<B: kafka_protocol::protocol::buf::ByteBuf>(body: &mut B) -> anyhow::Result<Option<Self>> {
                match $crate::structure::get_presence(body)? {
                    true => $crate::structure::Field::get(body).map(Some),
                    false => Ok(None),
                }
            }
        }
    )*};
}

/// Makes structures messages of version 0.
macro_rules! messages {
    ($($name:ident: header $header:literal;)*) => {$(
        impl kafka_protocol::protocol::Encodable for $name {
            fn encode<B: kafka_protocol::protocol::buf::ByteBufMut>(
                &self,
                out: &mut B,
                version: i16,
            ) -> anyhow::Result<()> {
                anyhow::ensure!(version == 0, "version {version} is not known");
                $crate::structure::Field::put(self, out);
                Ok(())
            }

            fn compute_size(&self, version: i16) -> anyhow::Result<usize> {
                let mut out = bytes::BytesMut::new();
                kafka_protocol::protocol::Encodable::encode(self, &mut out, version)?;
                Ok(out.len())
            }
        }

        impl kafka_protocol::protocol::Decodable for $name {
            fn decode<B: kafka_protocol::protocol::buf::ByteBuf>(body: &mut B, version: i16) -> anyhow::Result<Self> {
                anyhow::ensure!(version == 0, "version {version} is not known");
                $crate::structure::Field::get(body)
            }
        }

        impl kafka_protocol::protocol::Message for $name {
            const VERSIONS: kafka_protocol::protocol::VersionRange = VERSIONS;
            const DEPRECATED_VERSIONS: Option<kafka_protocol::protocol::VersionRange> = None;
        }

        impl kafka_protocol::protocol::HeaderVersion for $name {
            fn header_version(_: i16) -> i16 {
                $header
            }
        }
    )*};
}

pub(crate) use {messages, structures};
