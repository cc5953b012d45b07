//! What each endpoint below /v1 needs. A test compares the rows with the OpenAPI document.

use axum::http::Method;
use krocket_config::rules::Prefixes;
use krocket_features::escape;
use krocket_features::http::{Problem, message_id};
use krocket_proxy::acl::Ask;
use krocket_stack::security::Operation::{self, Alter, Delete, Describe, DescribeConfigs, Read, Write};
use krocket_stack::security::ResourceType;
use krocket_stack::security::acl::CLUSTER;
use serde_json::Value;

/// What decides about an endpoint.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// Who asks must be known; the Kafka requests that it makes decide.
    Known,
    /// All of these, of what the path names.
    All(&'static [(Named, Operation)]),
    /// The answer has those items only that may be seen.
    List(List),
    /// Create on the view, Describe on its source.
    NewView,
}

/// What the one parameter of a path names.
#[derive(Clone, Copy, Debug)]
pub enum Named {
    /// Nothing: it is about the cluster.
    Cluster,
    /// A topic.
    Topic,
    /// A message, by its id: its topic.
    Message,
    /// A group.
    Group,
    /// A group whose dead letters are meant: their topic.
    DeadLetters,
    /// A group whose retries are meant: their topic.
    Retries,
}

/// What items of a list are about.
#[derive(Clone, Copy, Debug)]
pub enum List {
    /// Messages, with their `id`: Read on the topic.
    Messages,
    /// Groups, as `group`: Describe.
    Groups,
    /// Topics, by `name`: Describe.
    Topics,
}

/// A question to the authorizer.
pub struct Check {
    /// What is to be done.
    pub operation: Operation,
    /// To what kind of thing.
    pub kind: ResourceType,
    /// Its name.
    pub name: String,
}

use Named::{Cluster, DeadLetters, Group, Message, Retries, Topic};
use Rule::{All, Known, List as Listed, NewView};

/// Method, path as in the document, rule.
pub const ROUTES: &[(Method, &str, Rule)] = &[
    (Method::GET, "/v1/openapi.json", Known),
    (Method::GET, "/v1/config", All(&[(Cluster, DescribeConfigs)])),
    (Method::GET, "/v1/topics", Known),
    (Method::GET, "/v1/topics/{name}", Known),
    (Method::GET, "/v1/groups", Known),
    (Method::GET, "/v1/groups/{group}", All(&[(Group, Describe)])),
    (Method::POST, "/v1/messages", Known),
    (Method::GET, "/v1/messages", Listed(List::Messages)),
    (Method::GET, "/v1/messages/{id}", All(&[(Message, Read)])),
    (Method::GET, "/v1/messages/{id}/life", All(&[(Message, Read)])),
    (Method::GET, "/v1/lookup", All(&[(Cluster, Describe)])),
    (Method::POST, "/v1/lookup/rebuild", All(&[(Cluster, Alter)])),
    (Method::GET, "/v1/scheduled", Listed(List::Messages)),
    (Method::GET, "/v1/scheduled/{id}", All(&[(Message, Read)])),
    (Method::DELETE, "/v1/scheduled/{id}", All(&[(Message, Write)])),
    (Method::POST, "/v1/scheduled/{id}/reschedule", All(&[(Message, Write)])),
    (Method::POST, "/v1/scheduled/{id}/fire", All(&[(Message, Write)])),
    (Method::GET, "/v1/transactions", Listed(List::Messages)),
    (Method::POST, "/v1/transactions/{id}/commit", All(&[(Message, Write)])),
    (Method::POST, "/v1/transactions/{id}/rollback", All(&[(Message, Write)])),
    (Method::POST, "/v1/transactions/{id}/resume", All(&[(Message, Write)])),
    (Method::GET, "/v1/retry/{group}", All(&[(Retries, Read)])),
    (Method::GET, "/v1/dlq", Listed(List::Groups)),
    (Method::GET, "/v1/dlq/{group}", All(&[(DeadLetters, Read)])),
    // What is redriven leaves one topic of the group and comes back in another.
    (Method::POST, "/v1/dlq/{group}/redrive", All(&[(DeadLetters, Read), (Retries, Write)])),
    (Method::GET, "/v1/dlq/{group}/redrive", All(&[(Group, Describe)])),
    (Method::POST, "/v1/dlq/{group}/purge", All(&[(DeadLetters, Delete), (Group, Read)])),
    (Method::GET, "/v1/views", Listed(List::Topics)),
    (Method::GET, "/v1/views/{name}", All(&[(Topic, Describe)])),
    (Method::POST, "/v1/views", NewView),
    (Method::DELETE, "/v1/views/{name}", All(&[(Topic, Delete)])),
    (Method::POST, "/v1/views/check", Known),
    // Sizes are the cluster's; topics and groups are those that the caller may see.
    (Method::GET, "/v1/overview", All(&[(Cluster, Describe)])),
    // All there is.
    (Method::POST, "/v1/snapshots", All(&[(Cluster, Operation::All)])),
    (Method::GET, "/v1/snapshots/{id}/files/{name}", All(&[(Cluster, Operation::All)])),
    (Method::DELETE, "/v1/snapshots/{id}", All(&[(Cluster, Operation::All)])),
];

/// Why there is no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// No such path.
    Path,
    /// The path does not know the method.
    Method,
}

/// The rule of an endpoint. As the router has it: a word goes before a parameter, and the path decides before the method.
pub fn find(method: &Method, path: &str) -> Result<Rule, Unknown> {
    let parameters = |template: &str| template.matches('{').count();
    let fitting = ROUTES.iter().filter(|(_, template, _)| fits(template, path)).map(|(_, template, _)| *template);
    let template = fitting.min_by_key(|template| parameters(template)).ok_or(Unknown::Path)?;
    let row = ROUTES.iter().find(|(of, at, _)| of == method && *at == template);
    row.map(|(_, _, rule)| *rule).ok_or(Unknown::Method)
}

fn fits(template: &str, path: &str) -> bool {
    let (mut words, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (words.next(), given.next()) {
            (None, None) => return true,
            (Some(word), Some(given)) if word == given || (word.starts_with('{') && !given.is_empty()) => {}
            _ => return false,
        }
    }
}

impl Named {
    /// The question about what a path's parameter names.
    pub fn check(self, operation: Operation, param: &str, prefixes: &Prefixes) -> Result<Check, Problem> {
        let own = |prefix: &str| {
            escape::topic(prefix, param).ok_or_else(|| Problem::not_found(format!("there is no group \"{param}\"")))
        };
        let (kind, name) = match self {
            Named::Cluster => (ResourceType::Cluster, CLUSTER.to_owned()),
            Named::Topic => (ResourceType::Topic, param.to_owned()),
            Named::Message => (ResourceType::Topic, message_id(param)?.topic),
            Named::Group => (ResourceType::Group, param.to_owned()),
            Named::DeadLetters => (ResourceType::Topic, own(&prefixes.dlq)?),
            Named::Retries => (ResourceType::Topic, own(&prefixes.retry)?),
        };
        Ok(Check { operation, kind, name })
    }
}

impl List {
    /// Whether an item may be seen. One without the field may not.
    pub fn shows(self, item: &Value, ask: &Ask<'_>) -> bool {
        let text = |field: &str| item.get(field).and_then(Value::as_str);
        match self {
            List::Messages => text("id")
                .and_then(|id| message_id(id).ok())
                .is_some_and(|id| ask.would(Read, ResourceType::Topic, &id.topic)),
            List::Groups => text("group").is_some_and(|group| ask.would(Describe, ResourceType::Group, group)),
            List::Topics => text("name").is_some_and(|name| ask.would(Describe, ResourceType::Topic, name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_as_the_router_finds_it() {
        let found = |method: Method, path: &str| find(&method, path);
        assert!(matches!(found(Method::POST, "/v1/views/check"), Ok(Rule::Known)));
        assert!(matches!(found(Method::DELETE, "/v1/views/x%2Fy"), Ok(All([(Topic, Delete)]))));
        assert_eq!(found(Method::GET, "/v1/views/check").err(), Some(Unknown::Method));
        for path in ["/v1/views/", "/v1/views/a/b", "/v1", "/v1/", "//v1/views", "/v1/scheduled//fire"] {
            assert_eq!(found(Method::GET, path).err(), Some(Unknown::Path), "{path}");
        }
    }
}
