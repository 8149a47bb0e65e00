//! A node among other programs, under load and under faults: what needs minutes, or more than the binary.

mod crash;
mod deployment;
mod durability;
mod fairness;
mod full_disk;
mod nostr_tools;
mod observability;
mod overload;
mod page;
mod proxy_protocol;
mod slow_reader;
mod traces;
