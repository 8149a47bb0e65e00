//! Every rule of the protocols (NIPs) that the relay keeps, from outside: a file a subject.

mod events;
mod filters;
mod kinds;
mod live;
mod order;
mod restart;
mod subscriptions;

mod nip02_65;
mod nip09;
mod nip11;
mod nip13;
mod nip17_59;
mod nip40;
mod nip42;
mod nip45;
mod nip62;
mod nip67;
mod nip70;
mod nip77;
