//! The shape of a message: enough of Kafka's message definitions to walk its bytes.

/// A message at all of its versions.
#[derive(Debug)]
pub struct Schema {
    /// First version in the compact encoding with tag sections (KIP-482).
    pub flexible: i16,
    /// The message's fields.
    pub fields: &'static [Field],
}

/// In place of a version: no version.
pub const NEVER: i16 = i16::MAX;

/// One field, with the versions that carry it. Built by functions that read like Kafka's definitions:
/// `string("RackId").since(11)`.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Kafka's name.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// First version.
    pub since: i16,
    /// Last version.
    pub until: i16,
    /// First version in which the field may be null.
    pub nullable: i16,
    /// Set where the field travels in the tag section.
    pub tag: Option<u32>,
}

/// The type of a field.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// As many bytes.
    Fixed(usize),
    /// A string.
    String,
    /// Bytes or records.
    Bytes,
    /// A structure within.
    Struct(&'static [Field]),
    /// An array of fixed-size values or strings.
    Values(&'static Kind),
    /// An array of structures.
    Structs(&'static [Field]),
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, since: 0, until: i16::MAX, nullable: NEVER, tag: None }
}

/// An integer of one byte, or a boolean.
pub const fn int8(name: &'static str) -> Field {
    field(name, INT8)
}

/// An integer of two bytes.
pub const fn int16(name: &'static str) -> Field {
    field(name, INT16)
}

/// An integer of four bytes.
pub const fn int32(name: &'static str) -> Field {
    field(name, INT32)
}

/// An integer or a float of eight bytes.
pub const fn int64(name: &'static str) -> Field {
    field(name, INT64)
}

/// A UUID.
pub const fn uuid(name: &'static str) -> Field {
    field(name, UUID)
}

/// A string.
pub const fn string(name: &'static str) -> Field {
    field(name, STRING)
}

/// Bytes or records.
pub const fn bytes(name: &'static str) -> Field {
    field(name, Kind::Bytes)
}

/// A structure.
pub const fn structure(name: &'static str, fields: &'static [Field]) -> Field {
    field(name, Kind::Struct(fields))
}

/// An array of structures.
pub const fn array(name: &'static str, fields: &'static [Field]) -> Field {
    field(name, Kind::Structs(fields))
}

/// An array of plain values.
pub const fn array_of(name: &'static str, kind: &'static Kind) -> Field {
    field(name, Kind::Values(kind))
}

/// One-byte elements.
pub const INT8: Kind = Kind::Fixed(1);
/// Two-byte elements.
pub const INT16: Kind = Kind::Fixed(2);
/// Four-byte elements.
pub const INT32: Kind = Kind::Fixed(4);
/// Eight-byte elements.
pub const INT64: Kind = Kind::Fixed(8);
/// UUID elements.
pub const UUID: Kind = Kind::Fixed(16);
/// String elements.
pub const STRING: Kind = Kind::String;

impl Field {
    /// Carried from this version on.
    pub const fn since(self, version: i16) -> Self {
        Field { since: version, ..self }
    }

    /// Carried up to this version.
    pub const fn until(self, version: i16) -> Self {
        Field { until: version, ..self }
    }

    /// May be null from this version on.
    pub const fn nullable(self, version: i16) -> Self {
        Field { nullable: version, ..self }
    }

    /// Travels in the tag section under this tag.
    pub const fn tag(self, tag: u32) -> Self {
        Field { tag: Some(tag), ..self }
    }

    /// True when this version of the message carries the field.
    pub fn is_in(&self, version: i16) -> bool {
        (self.since..=self.until).contains(&version)
    }
}
