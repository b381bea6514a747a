//! The HTTP API as a black box: requests into the router, answers out, no sockets.

mod bad_input;
mod calls;
mod cluster;
mod connections;
mod cost;
mod damage;
mod early;
mod figures;
mod imports;
mod imports_property;
mod layers;
mod limits;
mod metrics;
mod pages;
mod queries;
mod recall;
mod server;
mod streams;
mod support;
mod upkeep;
