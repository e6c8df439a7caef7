//! The management plane: one typed model of what the router is and does, and everything that shows or changes it.
//!
//! Nothing here knows a device or a packet: the router hands in the model's values. Task level, or an ordinary program.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod access;
pub mod api;
pub mod capture;
pub mod configurations;
pub mod console;
pub mod diff;
mod etag;
pub mod explain;
pub mod fingerprint;
pub mod http;
pub mod metrics;
pub mod model;
pub mod nesting;
pub mod openapi;
pub mod pcapng;
pub mod probe;
pub mod problem;
pub mod reference;
pub mod router;
pub mod routes;
pub mod table;
pub mod text;
pub mod token;
pub mod web;
