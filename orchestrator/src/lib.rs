//! Chancery.
