//! The sending end of a push.
