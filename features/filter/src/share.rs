//! Filters of share groups: the group config `krocket.filter`.

use std::sync::Arc;

use krocket_protocol::records::Record;
use krocket_stack::share::RecordFilter;

use crate::expression::Expression;
use crate::view::Seen;

impl RecordFilter for Expression {
    fn matches(&self, record: &Record<'_>) -> bool {
        Expression::matches(self, &Seen(record))
    }
}

/// Reads a filter as views do; the error has the column.
pub fn share_filter(text: &str) -> Result<Arc<dyn RecordFilter>, String> {
    match Expression::parse(text) {
        Ok(expression) => Ok(Arc::new(expression)),
        Err(error) => Err(error.to_string()),
    }
}
