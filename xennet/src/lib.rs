//! Xen network front end: so far its foundation, the request/response ring shared with a backend that may be hostile.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod ring;
