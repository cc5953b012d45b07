//! Broker configs.

use std::sync::LazyLock;

use super::{ConfigDef, topic};

/// Every broker config, by name: the defaults that topics inherit, and the broker's own.
pub fn table() -> &'static [ConfigDef] {
    static TABLE: LazyLock<Vec<ConfigDef>> = LazyLock::new(|| {
        let inherited = topic::TABLE.iter().filter(|def| !def.synonym.is_empty()).map(|def| ConfigDef {
            name: def.synonym,
            kind: def.kind,
            default: def.default,
            synonym: "",
            doc: def.doc,
            promise: def.promise,
        });
        let mut table: Vec<ConfigDef> = inherited.collect();
        table.sort_by_key(|def| def.name);
        table
    });
    &TABLE
}
