//! A certificate's subject as Java prints it (X500Principal.getName), which is what ACLs and mapping rules are written for.

use std::fmt::Write;

use x509_parser::der_parser::asn1_rs::{Any, Tag};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Keywords of RFC 2253; other attributes are written as numbers and bytes.
const KEYWORDS: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
];

/// The name in RFC 2253's form: the most specific part first, no blanks between parts.
pub fn rfc2253(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> =
        name.iter().map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let value = attribute.attr_value();
    match (KEYWORDS.iter().find(|(number, _)| *number == oid), text(value)) {
        (Some((_, keyword)), Some(text)) => format!("{keyword}={}", escaped(&text)),
        (Some((_, keyword)), None) => format!("{keyword}=#{}", hex(value)),
        (None, _) => format!("{oid}=#{}", hex(value)),
    }
}

/// The text of the string types that Java takes for text.
fn text(value: &Any<'_>) -> Option<String> {
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString => String::from_utf8(value.data.to_vec()).ok(),
        Tag::Ia5String | Tag::GeneralString => {
            value.data.is_ascii().then(|| value.data.iter().map(|byte| char::from(*byte)).collect())
        }
        // Java reads it as Latin 1.
        Tag::T61String => Some(value.data.iter().map(|byte| char::from(*byte)).collect()),
        Tag::BmpString => {
            let units = value.data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            String::from_utf16(&units.collect::<Vec<_>>()).ok()
        }
        _ => None,
    }
}

fn escaped(text: &str) -> String {
    let blank = |c: char| c == ' ' || c == '\r';
    let lead = text.len() - text.trim_start_matches(blank).len();
    let trail = text.trim_end_matches(blank).len();
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        match c {
            ',' | '=' | '+' | '<' | '>' | '#' | ';' | '"' | '\\' => out.extend(['\\', c]),
            '\0' => out.push_str("\\00"),
            c if at < lead || at >= trail => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

/// The value with its tag and length.
fn hex(value: &Any<'_>) -> String {
    let mut der = vec![value.tag().0 as u8];
    let length = value.data.len();
    match length {
        0..=127 => der.push(length as u8),
        128..=255 => der.extend([0x81, length as u8]),
        _ => der.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    der.extend_from_slice(value.data);
    der.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};
    use x509_parser::prelude::{FromDer, X509Certificate};

    fn subject(parts: Vec<(DnType, DnValue)>) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind, value);
        }
        let certificate = params.self_signed(&KeyPair::generate().expect("a key")).expect("signed");
        let (_, parsed) = X509Certificate::from_der(certificate.der()).expect("parses");
        rfc2253(parsed.subject())
    }

    fn utf8(text: &str) -> DnValue {
        DnValue::Utf8String(text.to_owned())
    }

    #[test]
    fn subjects_are_written_as_java_writes_them() {
        let email = || DnType::CustomDnType(vec![1, 2, 840, 113549, 1, 9, 1]);
        let uid = || DnType::CustomDnType(vec![0, 9, 2342, 19200300, 100, 1, 1]);
        for (parts, expected) in [
            (
                vec![
                    (DnType::CountryName, utf8("DE")),
                    (DnType::StateOrProvinceName, utf8("Berlin")),
                    (DnType::OrganizationName, utf8("Example")),
                    (DnType::OrganizationalUnitName, utf8("Data")),
                    (DnType::CommonName, utf8("alice")),
                ],
                "CN=alice,OU=Data,O=Example,ST=Berlin,C=DE",
            ),
            (vec![(DnType::CommonName, utf8("a,b+c\"d\\e<f>g;h=i#j"))], r#"CN=a\,b\+c\"d\\e\<f\>g\;h\=i\#j"#),
            (vec![(DnType::CommonName, utf8("  two  "))], r"CN=\ \ two\ \ "),
            (vec![(DnType::CommonName, utf8("Jürgen 東"))], "CN=Jürgen 東"),
            (vec![(uid(), utf8("u1")), (email(), utf8("a@b"))], "1.2.840.113549.1.9.1=#0c03614062,UID=u1"),
            (vec![], ""),
        ] {
            assert_eq!(subject(parts), expected);
        }
    }
}
