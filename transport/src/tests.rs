//! Two routers' sockets and a link between them that loses, doubles and reorders, in virtual time.

mod datagrams;
mod flood;
mod hostile;
mod link;
mod parking;
mod streams;
