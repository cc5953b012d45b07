//! AlterClientQuotas (KIP-546): sets and removes quotas, each entity for itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use kafka_protocol::messages::alter_client_quotas_request::{self, AlterClientQuotasRequest, EntityData, OpData};
use kafka_protocol::messages::alter_client_quotas_response::{self, AlterClientQuotasResponse, EntryData};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;
use krocket_stack::security::{Entity, Name, QuotaKey, Values};

use super::describe_client_quotas::{CLIENT_ID, IP, USER};
use super::reply::ApiError;
use crate::Broker;
use crate::security::quotas::{MAX_ENTITIES, fits};

/// Changes of one entity: a value or, to remove it, none.
type Ops = BTreeMap<QuotaKey, Option<f64>>;

/// Answers AlterClientQuotas; ClientQuotaControlManager.alterClientQuotas. What was valid is stored as one.
pub(crate) async fn handle(
    broker: &Broker,
    _head: Head,
    request: AlterClientQuotasRequest,
) -> AlterClientQuotasResponse {
    let outcomes: Vec<Result<(Entity, Ops), ApiError>> = request.entries.iter().map(check).collect();
    let valid: Vec<(Entity, Ops)> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok().cloned()).collect();
    let stored = match request.validate_only || valid.is_empty() {
        true => Ok(()),
        false => store(broker, valid).await,
    };
    let results = request.entries.into_iter().zip(outcomes).map(|(entry, outcome)| {
        let result = EntryData::default().with_entity(entry.entity.into_iter().map(told).collect());
        match outcome.and_then(|_| stored.clone()) {
            Ok(()) => result.with_error_message(None),
            Err(error) => result.with_error_code(error.code.code()).with_error_message(error.text()),
        }
    });
    AlterClientQuotasResponse::default().with_entries(results.collect())
}

fn told(entity: EntityData) -> alter_client_quotas_response::EntityData {
    alter_client_quotas_response::EntityData::default()
        .with_entity_type(entity.entity_type)
        .with_entity_name(entity.entity_name)
}

/// All or none: a request that would be too many changes nothing.
async fn store(broker: &Broker, changes: Vec<(Entity, Ops)>) -> Result<(), ApiError> {
    let stored = broker.quotas.change(move |quotas| {
        let mut after = quotas.clone();
        for (entity, ops) in changes {
            let values = after.entry(entity.clone()).or_default();
            apply(values, ops);
            if values.is_empty() {
                after.remove(&entity);
            }
        }
        if after.len() > MAX_ENTITIES.max(quotas.len()) {
            let message = format!("At most {MAX_ENTITIES} entities have quotas: use defaults, or remove some.");
            return Err(ApiError::new(ErrorCode::PolicyViolation, message));
        }
        *quotas = after;
        Ok(())
    });
    stored.await?
}

fn apply(values: &mut Values, ops: Ops) {
    for (key, value) in ops {
        match value {
            Some(value) => values.insert(key, value),
            None => values.remove(&key),
        };
    }
}

fn check(entry: &alter_client_quotas_request::EntryData) -> Result<(Entity, Ops), ApiError> {
    let entity = entity(&entry.entity)?;
    let mut ops = Ops::new();
    for op in &entry.ops {
        if let Some((key, value)) = change(&entity, op)? {
            ops.insert(key, value);
        }
    }
    Ok((entity, ops))
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
}

fn entity(parts: &[EntityData]) -> Result<Entity, ApiError> {
    let mut entity = Entity::default();
    for part in parts {
        let kind = part.entity_type.as_str();
        let place = match kind {
            USER => &mut entity.user,
            CLIENT_ID => &mut entity.client_id,
            IP => &mut entity.ip,
            other => return Err(invalid(format!("Unhandled client quota entity type: {other}"))),
        };
        if place.is_some() {
            return Err(invalid(format!("Invalid client quota entity, duplicate entity entry {kind}")));
        }
        *place = Some(match part.entity_name.as_deref() {
            None => Name::Default,
            Some("") => return Err(invalid(format!("Empty {kind} not supported"))),
            Some(name) => Name::Is(name.to_owned()),
        });
    }
    match &entity.ip {
        Some(_) if entity.user.is_some() || entity.client_id.is_some() => Err(invalid(
            "Invalid quota entity combination, IP entity should not be used with user or client ID entity.",
        )),
        // Kafka looks up host names too, once; what they stand for later is anybody's guess.
        Some(Name::Is(name)) if name.parse::<IpAddr>().is_err() => {
            Err(invalid(format!("{name} is not a valid IP or resolvable host.")))
        }
        _ if entity == Entity::default() => Err(invalid("Invalid empty client quota entity")),
        _ if !fits(&entity) => Err(invalid("The names of the client quota entity are too long")),
        _ => Ok(entity),
    }
}

/// Nothing where a quota is to be removed that there cannot be.
fn change(entity: &Entity, op: &OpData) -> Result<Option<(QuotaKey, Option<f64>)>, ApiError> {
    let name = op.key.as_str();
    let of_address = entity.ip.is_some();
    let key = QuotaKey::parse(name).filter(|key| (*key == QuotaKey::ConnectionCreationRate) == of_address);
    let Some(key) = key else {
        return if op.remove { Ok(None) } else { Err(invalid(format!("Invalid configuration key {name}"))) };
    };
    if op.remove {
        return Ok(Some((key, None)));
    }
    // Nothing may be forbidden by a quota, and nothing may be divided by zero.
    if !op.value.is_finite() || op.value <= 0.0 {
        return Err(invalid(format!("Quota {name} must be greater than 0")));
    }
    let (whole, largest, kind) = match key {
        QuotaKey::ProducerByteRate | QuotaKey::ConsumerByteRate => (true, i64::MAX as f64, "LONG"),
        QuotaKey::ConnectionCreationRate => (true, f64::from(i32::MAX), "INT"),
        QuotaKey::RequestPercentage | QuotaKey::ControllerMutationRate => (false, f64::MAX, "DOUBLE"),
    };
    if op.value > largest {
        return Err(invalid(format!("Proposed value for {name} is too large for a {kind}.")));
    }
    if whole && op.value.fract() > 1e-6 {
        return Err(invalid(format!("{name} cannot be a fractional value.")));
    }
    Ok(Some((key, Some(op.value))))
}
