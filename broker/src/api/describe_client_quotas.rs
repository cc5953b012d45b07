//! DescribeClientQuotas (KIP-546): the quotas of the entities that a filter finds.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_client_quotas_request::{ComponentData, DescribeClientQuotasRequest};
use kafka_protocol::messages::describe_client_quotas_response::{
    DescribeClientQuotasResponse, EntityData, EntryData, ValueData,
};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;
use krocket_stack::security::{Entity, Name, Values};

use super::reply::{ApiError, text};
use crate::Broker;

pub(super) const USER: &str = "user";
pub(super) const CLIENT_ID: &str = "client-id";
pub(super) const IP: &str = "ip";

/// An entity's parts by Kafka's names for them.
pub(super) fn parts(entity: &Entity) -> [(&'static str, &Option<Name>); 3] {
    [(USER, &entity.user), (CLIENT_ID, &entity.client_id), (IP, &entity.ip)]
}

/// Answers DescribeClientQuotas; ClientQuotasImage.describe.
pub(crate) async fn handle(
    broker: &Broker,
    _head: Head,
    request: DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    let filter = match Filter::new(&request.components, request.strict) {
        Ok(filter) => filter,
        Err(error) => {
            return DescribeClientQuotasResponse::default()
                .with_error_code(error.code.code())
                .with_error_message(error.text())
                .with_entries(None);
        }
    };
    let quotas = broker.quotas.snapshot().get();
    let found = quotas.all().iter().filter(|(entity, _)| filter.matches(entity));
    DescribeClientQuotasResponse::default()
        .with_entries(Some(found.map(|(entity, values)| entry(entity, values)).collect()))
}

fn entry(entity: &Entity, values: &Values) -> EntryData {
    let named = parts(entity).into_iter().filter_map(|(kind, name)| Some((kind, name.as_ref()?)));
    let entity = named.map(|(kind, name)| {
        let name = match name {
            Name::Default => None,
            Name::Is(name) => Some(text(name)),
        };
        EntityData::default().with_entity_type(text(kind)).with_entity_name(name)
    });
    let values = values.iter().map(|(key, value)| ValueData::default().with_key(text(key.name())).with_value(*value));
    EntryData::default().with_entity(entity.collect()).with_values(values.collect())
}

struct Filter {
    /// By type of entity; `None` for any name.
    components: BTreeMap<String, Option<Name>>,
    strict: bool,
}

impl Filter {
    fn new(asked: &[ComponentData], strict: bool) -> Result<Self, ApiError> {
        let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidRequest, message));
        let mut components = BTreeMap::new();
        for component in asked {
            let kind = component.entity_type.as_str();
            if kind.is_empty() {
                return invalid("Invalid empty entity type.".to_owned());
            }
            if components.contains_key(kind) {
                return invalid(format!("Entity type {kind} cannot appear more than once in the filter."));
            }
            if ![USER, CLIENT_ID, IP].contains(&kind) {
                let message = format!("Unsupported entity type: {kind}");
                return Err(ApiError::new(ErrorCode::UnsupportedVersion, message));
            }
            let unexpected = |kind: &str| {
                invalid(format!("Request specified MATCH_TYPE_{kind}, but also specified a match string."))
            };
            let name = match (component.match_type, &component._match) {
                (0, Some(name)) => Some(Name::Is(name.to_string())),
                (0, None) => {
                    return invalid("Request specified MATCH_TYPE_EXACT, but set the match string to null.".to_owned());
                }
                (1, None) => Some(Name::Default),
                (1, Some(_)) => return unexpected("DEFAULT"),
                (2, None) => None,
                (2, Some(_)) => return unexpected("SPECIFIED"),
                (other, _) => return invalid(format!("Unknown match type {other}")),
            };
            components.insert(kind.to_owned(), name);
        }
        if components.contains_key(IP) && components.len() > 1 {
            return invalid(
                "Invalid entity filter component combination. IP filter component should not be used with user or \
                 clientId filter component."
                    .to_owned(),
            );
        }
        Ok(Filter { components, strict })
    }

    fn matches(&self, entity: &Entity) -> bool {
        parts(entity).into_iter().all(|(kind, name)| match (self.components.get(kind), name) {
            (None, None) => true,
            (None, Some(_)) => !self.strict,
            (Some(_), None) => false,
            (Some(wanted), Some(name)) => wanted.as_ref().is_none_or(|wanted| wanted == name),
        })
    }
}
