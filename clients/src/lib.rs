//! What the router asks others for, sans-I/O: addresses, time, names; and where its log goes.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;
