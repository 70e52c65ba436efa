//! The receiving end of a push.
