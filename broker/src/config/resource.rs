//! The resources that have configs, as requests name them.

use std::collections::BTreeMap;
use std::sync::Arc;

use krocket_protocol::ErrorCode;

use super::InvalidConfig;
use super::alter::Scope;
use super::state::Owner;
use crate::Broker;
use crate::api::reply::ApiError;
use crate::topics::{Edit, Topic, name};

/// Resource types by their numbers (ConfigResource.Type).
pub(crate) mod kind {
    /// A topic.
    pub(crate) const TOPIC: i8 = 2;
    /// A broker, or all of them when the name is empty.
    pub(crate) const BROKER: i8 = 4;
    /// The log levels of a broker.
    pub(crate) const BROKER_LOGGER: i8 = 8;
    /// A subscription to client metrics (KIP-714), which krocket doesn't have.
    pub(crate) const CLIENT_METRICS: i8 = 16;
    /// A group.
    pub(crate) const GROUP: i8 = 32;
}

/// A resource whose configs can be described and changed.
#[derive(Clone)]
pub(crate) enum Resource {
    /// A topic.
    Topic(Arc<Topic>),
    /// This broker, all brokers, a group.
    Owner(Owner),
}

impl Resource {
    /// Finds what a request names.
    pub(crate) fn find(broker: &Broker, kind: i8, resource: &str) -> Result<Self, ApiError> {
        let invalid = |message: String| ApiError::new(ErrorCode::InvalidRequest, message);
        match kind {
            kind::TOPIC if resource.is_empty() => Err(invalid("Default topic resources are not allowed.".to_owned())),
            kind::TOPIC => {
                name::check(resource).map_err(|why| ApiError::new(ErrorCode::InvalidTopicException, why))?;
                let topic = broker.topics.get(resource).ok_or(ErrorCode::UnknownTopicOrPartition)?;
                Ok(Resource::Topic(topic))
            }
            kind::BROKER if resource.is_empty() => Ok(Resource::Owner(Owner::Cluster)),
            kind::BROKER => {
                check_node(broker, resource)?;
                Ok(Resource::Owner(Owner::Node))
            }
            kind::GROUP if resource.is_empty() => Err(invalid("Default group resources are not allowed.".to_owned())),
            kind::GROUP => Ok(Resource::Owner(Owner::Group(resource.to_owned()))),
            kind::CLIENT_METRICS => {
                Err(invalid("krocket collects no client metrics, so there is nothing to configure.".to_owned()))
            }
            other => Err(invalid(format!("Unknown resource type {other}"))),
        }
    }

    /// What was set on it.
    pub(crate) fn configs(&self, broker: &Broker) -> BTreeMap<String, String> {
        match self {
            Resource::Topic(topic) => topic.config.load().overrides.clone(),
            Resource::Owner(owner) => broker.configs.get(owner),
        }
    }

    /// Which table its configs are in.
    pub(crate) fn scope(&self) -> Scope {
        match self {
            Resource::Topic(_) => Scope::Topic,
            Resource::Owner(Owner::Group(_)) => Scope::Group,
            Resource::Owner(_) => Scope::Broker,
        }
    }

    /// What a change is refused with. For brokers Kafka has another code, from before there was INVALID_CONFIG (KAFKA-13609).
    pub(crate) fn refuse(&self, why: InvalidConfig) -> ApiError {
        match self.scope() {
            Scope::Broker => ApiError::new(ErrorCode::InvalidRequest, why.to_string()),
            Scope::Topic | Scope::Group => why.into(),
        }
    }

    /// Checks the new configs against everything else that holds and makes the edit of them.
    pub(crate) fn edit(self, broker: &Broker, configs: BTreeMap<String, String>) -> Result<Edit, ApiError> {
        let mut layers = (*broker.configs.layers()).clone();
        match &self {
            Resource::Owner(Owner::Node) => layers.node = configs.clone(),
            Resource::Owner(Owner::Cluster) => layers.default = configs.clone(),
            _ => {}
        }
        let valid = self.scope().check(&configs, &layers, &broker.configs.broker());
        valid.map_err(|why| self.refuse(why))?;
        Ok(match self {
            Resource::Topic(topic) => Edit::ConfigureTopic { topic, configs },
            Resource::Owner(owner) => Edit::Configure { owner, configs },
        })
    }
}

/// The only broker that can be asked for is this one.
pub(crate) fn check_node(broker: &Broker, id: &str) -> Result<(), ApiError> {
    let node = broker.settings.node_id;
    let message = match id.parse::<i32>() {
        Ok(id) if id == node => return Ok(()),
        Ok(_) => format!("Unexpected broker id, expected {node} or empty string, but received {id}"),
        Err(_) => format!("Broker id must be an integer, but it is: {id}"),
    };
    Err(ApiError::new(ErrorCode::InvalidRequest, message))
}
