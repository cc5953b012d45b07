//! Look-up of messages by id, UNIQ_KEY and key, and the life of each.
