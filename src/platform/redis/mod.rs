//! Redis clients: discovery of the primary, connections, fenced scripts, and checks that a server is fit for
//! use.
//!
//! Redis can lose data silently: a server that was emptied, restarted, or replaced by a replica that missed
//! the last second responds as before. A [`FencedConnection`] is therefore one TCP connection whose server
//! was identified when it was made ([`DatasetId`]), and a script runs only under an *epoch* that the store
//! has activated, after it compared the dataset with the one in its journal and rebuilt what was lost. Every
//! script checks the epoch against a key that is lost together with the data, in the same atomic step (see
//! [`Script`]).
//!
//! All keys of one store carry one hash tag. On Redis Cluster they are therefore on one server, and a fenced
//! connection is a connection to that server.
//!
//! | key | holds |
//! |---|---|
//! | `{tag}:ready` | the epoch whose data are complete; missing while they are not |

mod client;
mod connection;
mod discovery;
mod errors;
mod fitness;
mod script;
mod server_time;
#[cfg(test)]
mod tests;
mod url;

pub use self::{
    client::{Connection, DatasetId, Redis, RedisConfig},
    connection::FencedConnection,
    errors::{CallError, ConnectError, Unfit},
    script::{Call, Script},
    url::{RedisUrl, RedisUrlError},
};
