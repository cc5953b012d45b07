//! Client quotas (KIP-13, KIP-124, KIP-546, KIP-599, KIP-612): which one holds for whom.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaKey {
    /// Bytes of Produce requests per second.
    ProducerByteRate,
    /// Bytes of Fetch responses per second.
    ConsumerByteRate,
    /// Per cent of one thread's time.
    RequestPercentage,
    /// Partitions created and deleted per second.
    ControllerMutationRate,
    /// New connections per second.
    ConnectionCreationRate,
}

impl QuotaKey {
    /// Every key.
    pub const ALL: [QuotaKey; 5] = [
        QuotaKey::ProducerByteRate,
        QuotaKey::ConsumerByteRate,
        QuotaKey::RequestPercentage,
        QuotaKey::ControllerMutationRate,
        QuotaKey::ConnectionCreationRate,
    ];

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            QuotaKey::ProducerByteRate => "producer_byte_rate",
            QuotaKey::ConsumerByteRate => "consumer_byte_rate",
            QuotaKey::RequestPercentage => "request_percentage",
            QuotaKey::ControllerMutationRate => "controller_mutation_rate",
            QuotaKey::ConnectionCreationRate => "connection_creation_rate",
        }
    }

    /// The key of this name.
    pub fn parse(name: &str) -> Option<Self> {
        QuotaKey::ALL.into_iter().find(|key| key.name() == name)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// One part of an entity's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// Everybody who has no quota by name.
    Default,
    /// This one.
    Is(String),
}

/// Whom a quota is for: a user, a client id, both, or an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entity {
    /// The name of the principal.
    pub user: Option<Name>,
    /// The client id.
    pub client_id: Option<Name>,
    /// The client's address; stands alone.
    pub ip: Option<Name>,
}

/// An entity's quotas.
pub type Values = BTreeMap<QuotaKey, f64>;

/// Those that share a limit: a user, a client id, or a client id of a user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sharers {
    /// The user; `None`: whoever has the client id.
    pub user: Option<String>,
    /// The client id; `None`: whatever the user's clients are called.
    pub client_id: Option<String>,
}

/// The quota in force for a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// The value of the quota.
    pub value: f64,
    /// Who is counted together.
    pub sharers: Sharers,
}

/// What rates are measured over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// How many, the one that runs included.
    pub count: u32,
    /// The length of each.
    pub size: Duration,
}

impl Windows {
    /// The length of all.
    pub fn span(&self) -> Duration {
        self.size.saturating_mul(self.count)
    }
}

impl Default for Windows {
    /// Kafka's.
    fn default() -> Self {
        Windows { count: 11, size: Duration::from_secs(1) }
    }
}

/// All quotas, ready to be asked.
#[derive(Debug, Default)]
pub struct QuotaSet {
    all: BTreeMap<Entity, Values>,
    clients: HashMap<Entity, Values>,
    addresses: HashMap<IpAddr, f64>,
    any_address: Option<f64>,
    in_force: u8,
}

/// Part of an entity at a level of precedence.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Own,
    Default,
    Any,
}

/// Kafka's order: the first level that has the quota decides.
const LEVELS: [(Part, Part); 8] = [
    (Part::Own, Part::Own),
    (Part::Own, Part::Default),
    (Part::Own, Part::Any),
    (Part::Default, Part::Own),
    (Part::Default, Part::Default),
    (Part::Default, Part::Any),
    (Part::Any, Part::Own),
    (Part::Any, Part::Default),
];

impl Part {
    fn name(self, own: &str) -> Option<Name> {
        match self {
            Part::Own => Some(Name::Is(own.to_owned())),
            Part::Default => Some(Name::Default),
            Part::Any => None,
        }
    }

    /// A default is a limit of each one's own.
    fn sharer(self, own: &str) -> Option<String> {
        (self != Part::Any).then(|| own.to_owned())
    }
}

impl QuotaSet {
    /// Everything that was set.
    pub fn new(all: BTreeMap<Entity, Values>) -> Self {
        let mut set = QuotaSet::default();
        for (entity, values) in &all {
            for key in values.keys() {
                set.in_force |= key.bit();
            }
            match &entity.ip {
                None => {
                    set.clients.insert(entity.clone(), values.clone());
                }
                Some(name) => {
                    let Some(rate) = values.get(&QuotaKey::ConnectionCreationRate) else { continue };
                    match name {
                        Name::Default => set.any_address = Some(*rate),
                        // Anything else was refused when it came.
                        Name::Is(address) => {
                            set.addresses.extend(address.parse().map(|it: IpAddr| (it.to_canonical(), *rate)))
                        }
                    }
                }
            }
        }
        QuotaSet { all, ..set }
    }

    /// As they were set.
    pub fn all(&self) -> &BTreeMap<Entity, Values> {
        &self.all
    }

    /// The quota that holds for a client of a user.
    pub fn limit(&self, key: QuotaKey, user: &str, client_id: &str) -> Option<Limit> {
        LEVELS.iter().find_map(|(of_user, of_client)| {
            let entity = Entity { user: of_user.name(user), client_id: of_client.name(client_id), ip: None };
            let value = *self.clients.get(&entity)?.get(&key)?;
            let sharers = Sharers { user: of_user.sharer(user), client_id: of_client.sharer(client_id) };
            Some(Limit { value, sharers })
        })
    }

    /// How many connections per second an address may make.
    pub fn connection_rate(&self, address: IpAddr) -> Option<f64> {
        self.addresses.get(&address.to_canonical()).copied().or(self.any_address)
    }
}

/// The quotas as they are now.
#[derive(Debug, Default)]
pub struct Quotas {
    set: ArcSwap<QuotaSet>,
    in_force: AtomicU8,
}

impl Quotas {
    /// All of them.
    pub fn get(&self) -> Arc<QuotaSet> {
        self.set.load_full()
    }

    /// Replaces all of them.
    pub fn set(&self, set: QuotaSet) {
        let in_force = set.in_force;
        self.set.store(Arc::new(set));
        self.in_force.store(in_force, Ordering::Release);
    }

    /// True when somebody has any of these quotas: all that a request costs while nobody has.
    pub fn in_force(&self, keys: &[QuotaKey]) -> bool {
        let bits = keys.iter().fold(0, |bits, key| bits | key.bit());
        self.in_force.load(Ordering::Acquire) & bits != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Option<Name> {
        match text {
            "" => None,
            "*" => Some(Name::Default),
            text => Some(Name::Is(text.to_owned())),
        }
    }

    fn entity(user: &str, client_id: &str) -> Entity {
        Entity { user: name(user), client_id: name(client_id), ip: None }
    }

    fn set(levels: &[(&str, &str)]) -> QuotaSet {
        let values = |at: usize| Values::from([(QuotaKey::ProducerByteRate, at as f64 + 1.0)]);
        QuotaSet::new(
            levels.iter().enumerate().map(|(at, (user, client))| (entity(user, client), values(at))).collect(),
        )
    }

    #[test]
    fn the_eight_levels_are_asked_in_kafkas_order() {
        let levels = [("u", "c"), ("u", "*"), ("u", ""), ("*", "c"), ("*", "*"), ("*", ""), ("", "c"), ("", "*")];
        let own = |user: bool, client: bool| Sharers {
            user: user.then(|| "u".to_owned()),
            client_id: client.then(|| "c".to_owned()),
        };
        let counted = [
            own(true, true),
            own(true, true),
            own(true, false),
            own(true, true),
            own(true, true),
            own(true, false),
            own(false, true),
            own(false, true),
        ];
        for from in 0..levels.len() {
            // The levels before are not set; those behind are, with other values.
            let limit = set(&levels[from..]).limit(QuotaKey::ProducerByteRate, "u", "c").expect("a limit");
            assert_eq!(limit, Limit { value: 1.0, sharers: counted[from].clone() }, "{:?}", levels[from]);
        }
        assert_eq!(set(&levels).limit(QuotaKey::ConsumerByteRate, "u", "c"), None);
        assert_eq!(set(&levels[..4]).limit(QuotaKey::ProducerByteRate, "v", "d"), None, "nobody's default");
    }

    #[test]
    fn a_level_without_the_key_is_passed_over() {
        let both = BTreeMap::from([
            (entity("u", "c"), Values::from([(QuotaKey::ConsumerByteRate, 1.0)])),
            (entity("", "*"), Values::from([(QuotaKey::ProducerByteRate, 2.0)])),
        ]);
        let set = QuotaSet::new(both);
        assert_eq!(set.limit(QuotaKey::ProducerByteRate, "u", "c").map(|limit| limit.value), Some(2.0));
        assert_eq!(set.limit(QuotaKey::ConsumerByteRate, "u", "c").map(|limit| limit.value), Some(1.0));
    }

    #[test]
    fn what_nobody_has_is_not_in_force() {
        let quotas = Quotas::default();
        assert!(!quotas.in_force(&QuotaKey::ALL));
        quotas.set(set(&[("u", "")]));
        assert!(quotas.in_force(&[QuotaKey::ProducerByteRate]) && !quotas.in_force(&[QuotaKey::ConsumerByteRate]));
        quotas.set(QuotaSet::default());
        assert!(!quotas.in_force(&QuotaKey::ALL));
    }

    #[test]
    fn an_address_has_its_own_rate_or_the_default() {
        let of = |ip: &str, rate: f64| {
            let entity = Entity { ip: name(ip), ..Entity::default() };
            (entity, Values::from([(QuotaKey::ConnectionCreationRate, rate)]))
        };
        let set = QuotaSet::new(BTreeMap::from([of("10.0.0.1", 5.0), of("*", 9.0)]));
        let rate = |ip: &str| set.connection_rate(ip.parse().expect("an address"));
        assert_eq!([rate("10.0.0.1"), rate("::ffff:10.0.0.1"), rate("10.0.0.2")], [Some(5.0), Some(5.0), Some(9.0)]);
        assert_eq!(QuotaSet::default().connection_rate("::1".parse().expect("an address")), None);
    }
}
