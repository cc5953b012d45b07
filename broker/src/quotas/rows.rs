//! A client quota as a row.

use std::collections::BTreeMap;

use krocket_stack::security::{Entity, Name, QuotaKey, Values};
use serde::{Deserialize, Serialize};

/// The rows' format; a later one is refused.
const FORMAT: u8 = 1;
/// Longest key of a row: what an op of the log carries.
const MAX_KEY: usize = u16::MAX as usize;

#[derive(Serialize, Deserialize)]
struct Record {
    format: u8,
    values: BTreeMap<String, f64>,
}

/// True for an entity that a row can hold.
pub(crate) fn fits(entity: &Entity) -> bool {
    key(entity).len() <= MAX_KEY
}

/// User, client id, address: 0 for none, 1 for the default, 2 with length and name.
pub(super) fn key(entity: &Entity) -> Vec<u8> {
    let mut key = Vec::new();
    for part in [&entity.user, &entity.client_id, &entity.ip] {
        match part {
            None => key.push(0),
            Some(Name::Default) => key.push(1),
            Some(Name::Is(name)) => {
                key.push(2);
                key.extend((name.len() as u32).to_be_bytes());
                key.extend(name.as_bytes());
            }
        }
    }
    key
}

pub(super) fn value(values: &Values) -> Vec<u8> {
    let values = values.iter().map(|(key, value)| (key.name().to_owned(), *value)).collect();
    serde_json::to_vec(&Record { format: FORMAT, values }).expect("names and finite numbers are JSON")
}

pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<(Entity, Values), String> {
    let record: Record = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    if record.format != FORMAT {
        return Err(format!("its format is {}, this version of krocket reads {FORMAT}", record.format));
    }
    let mut rest = key;
    let mut part = || {
        let (kind, after) = rest.split_first()?;
        rest = after;
        match kind {
            0 => Some(None),
            1 => Some(Some(Name::Default)),
            2 => {
                let (len, after) = rest.split_first_chunk::<4>()?;
                let (name, after) = after.split_at_checked(u32::from_be_bytes(*len) as usize)?;
                rest = after;
                Some(Some(Name::Is(String::from_utf8(name.to_vec()).ok()?)))
            }
            _ => None,
        }
    };
    let parts = (part(), part(), part());
    let (Some(user), Some(client_id), Some(ip)) = parts else { return Err("its key is not an entity".to_owned()) };
    if !rest.is_empty() {
        return Err("its key goes on after the entity".to_owned());
    }
    let value = |(name, value): (String, f64)| match QuotaKey::parse(&name) {
        Some(key) => Ok((key, value)),
        None => Err(format!("the quota {name} is unknown")),
    };
    let values = record.values.into_iter().map(value).collect::<Result<_, _>>()?;
    Ok((Entity { user, client_id, ip }, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_entity_comes_back_from_its_row_and_a_later_format_is_refused() {
        let values = Values::from([(QuotaKey::RequestPercentage, 0.1), (QuotaKey::ProducerByteRate, 1e15)]);
        let parts = [None, Some(Name::Default), Some(Name::Is("älice ".to_owned()))];
        for user in &parts {
            for client_id in &parts {
                for ip in &parts {
                    let entity = Entity { user: user.clone(), client_id: client_id.clone(), ip: ip.clone() };
                    assert_eq!(decode(&key(&entity), &value(&values)), Ok((entity, values.clone())));
                }
            }
        }
        let later = String::from_utf8(value(&values)).expect("JSON").replace("\"format\":1", "\"format\":2");
        assert!(decode(&[0, 1, 0], later.as_bytes()).is_err_and(|why| why.contains("format is 2")));
        for cut in [&[][..], &[0, 1], &[3, 0, 0], &[2, 0, 0, 0, 9, b'a'], &[0, 0, 0, 0]] {
            assert!(decode(cut, &value(&values)).is_err(), "{cut:?}");
        }
    }
}
