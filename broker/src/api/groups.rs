//! What the group APIs share.

use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use crate::group::Client;

/// Every operation on a group, as bits by AclOperation: READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS.
pub(super) const OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

/// Who asks, as groups remember their members.
pub(super) fn client(head: &Head) -> Client {
    Client {
        id: head.client_id.as_deref().unwrap_or_default().to_owned(),
        host: format!("/{}", head.connection.peer.ip()),
        version: head.version,
    }
}

/// The error code of a result without a value.
pub(super) fn code_of(result: Result<(), ErrorCode>) -> i16 {
    result.map_or_else(|code| code.code(), |()| 0)
}
