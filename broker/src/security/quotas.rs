//! Client quotas as rows.

use std::collections::BTreeMap;

use krocket_stack::security::{Entity, Name, QuotaKey, QuotaSet, Quotas, Values};
use serde::{Deserialize, Serialize};

use super::{All, FORMAT, Kind, MAX_KEY, check_format, put_text, take_text};
use crate::log::tables::QUOTAS;

/// Most entities with quotas; each is in memory.
pub(crate) const MAX_ENTITIES: usize = 100_000;

#[derive(Serialize, Deserialize)]
struct Record {
    format: u8,
    values: BTreeMap<String, f64>,
}

/// Client quotas, for [`super::Store`].
pub(crate) struct QuotaKind;

impl Kind for QuotaKind {
    const TABLE: u8 = QUOTAS;
    const WHAT: &str = "a client quota";
    type Key = Entity;
    type Value = Values;
    type Snapshot = Quotas;

    /// User, client id, address: 0 for none, 1 for the default, 2 with the name.
    fn key(entity: &Entity) -> Vec<u8> {
        let mut key = Vec::new();
        for part in [&entity.user, &entity.client_id, &entity.ip] {
            match part {
                None => key.push(0),
                Some(Name::Default) => key.push(1),
                Some(Name::Is(name)) => {
                    key.push(2);
                    put_text(&mut key, name);
                }
            }
        }
        key
    }

    fn value(values: &Values) -> Vec<u8> {
        let values = values.iter().map(|(key, value)| (key.name().to_owned(), *value)).collect();
        serde_json::to_vec(&Record { format: FORMAT, values }).expect("names and finite numbers are JSON")
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<(Entity, Values), String> {
        let record: Record = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        check_format(record.format)?;
        let value = |(name, value): (String, f64)| match QuotaKey::parse(&name) {
            Some(key) => Ok((key, value)),
            None => Err(format!("the quota {name} is unknown")),
        };
        let values = record.values.into_iter().map(value).collect::<Result<_, _>>()?;
        Ok((entity(key).ok_or("its key is not an entity")?, values))
    }

    fn all(quotas: &Quotas) -> All<Self> {
        quotas.get().all().clone()
    }

    fn publish(quotas: &Quotas, all: All<Self>) {
        quotas.set(QuotaSet::new(all));
    }
}

/// True for an entity that a row can hold.
pub(crate) fn fits(entity: &Entity) -> bool {
    QuotaKind::key(entity).len() <= MAX_KEY
}

fn entity(mut rest: &[u8]) -> Option<Entity> {
    let mut part = || {
        let (kind, after) = rest.split_first()?;
        rest = after;
        match kind {
            0 => Some(None),
            1 => Some(Some(Name::Default)),
            2 => Some(Some(Name::Is(take_text(&mut rest)?))),
            _ => None,
        }
    };
    let (user, client_id, ip) = (part()?, part()?, part()?);
    rest.is_empty().then_some(Entity { user, client_id, ip })
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
                    assert_eq!(
                        QuotaKind::decode(&QuotaKind::key(&entity), &QuotaKind::value(&values)),
                        Ok((entity, values.clone()))
                    );
                }
            }
        }
        let later = String::from_utf8(QuotaKind::value(&values)).expect("JSON").replace("\"format\":1", "\"format\":2");
        assert!(QuotaKind::decode(&[0, 1, 0], later.as_bytes()).is_err_and(|why| why.contains("format is 2")));
        for cut in [&[][..], &[0, 1], &[3, 0, 0], &[2, 0, 0, 0, 9, b'a'], &[0, 0, 0, 0]] {
            assert!(QuotaKind::decode(cut, &QuotaKind::value(&values)).is_err(), "{cut:?}");
        }
    }
}
