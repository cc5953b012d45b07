//! Records that wait in place: what is parked, until when, and the worker that delivers it.
