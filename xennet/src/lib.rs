//! xennet
