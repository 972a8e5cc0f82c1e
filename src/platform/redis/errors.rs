//! The errors of Redis calls, of connecting, and of the fitness check.

use redis::RedisError;

/// Why a call returned no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The server does not respond. The call may or may not have been executed.
    #[error("Redis does not respond")]
    Unavailable,
    /// The server's data are not, or not yet, those of the active epoch. The call was not executed.
    #[error("Redis has lost its data; the store is being rebuilt")]
    Recovering,
    /// The server rejected the call, with its message. The call was not executed.
    #[error("Redis rejected the call: {0}")]
    Rejected(String),
}

/// Why no primary was reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection or a command on it failed.
    #[error(transparent)]
    Driver(#[from] RedisError),
    /// No sentinel responded; the error of the last one.
    #[error("no sentinel knows where the primary is: {0}")]
    NoSentinel(RedisError),
    /// The sentinels respond, but monitor no primary of this name.
    #[error("the sentinels monitor no primary named {0}")]
    UnknownName(String),
    /// No primary has the majority of the sentinels' votes.
    #[error("the sentinels disagree about the primary")]
    SentinelsDisagree,
    /// Each cluster member redirects to another one.
    #[error("the cluster's members disagree about the owner of a slot")]
    MembersDisagree,
    /// The cluster map assigns the slot to no primary.
    #[error("the cluster has no primary for a slot")]
    NoOwner,
    /// `CLUSTER SLOTS` returned something else than documented.
    #[error("the cluster map cannot be parsed")]
    UnreadableMap,
    /// The URL names no host.
    #[error("no host is configured")]
    NoHost,
}

/// Why a node does not start on this Redis, and how to fix it. `at` is `host:port` or a list of them.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// No connection, or no reply.
    #[error("Redis at {at} cannot be reached: {why}; is the address right, is it running?")]
    Unreachable {
        /// `host:port` of the server or the sentinels.
        at: String,
        /// The driver's message.
        why: String,
    },
    /// No sentinel responds, or they disagree.
    #[error(
        "the sentinels at {at} do not say where the primary is: {why}; are their addresses right, are they \
        running, \
         do they accept connections without a password?"
    )]
    Sentinels {
        /// `host:port` of the server or the sentinels.
        at: String,
        /// The driver's message.
        why: String,
    },
    /// The sentinels monitor no primary of the configured name.
    #[error(
        "the sentinels at {at} monitor no primary named {name}; end the URL with the name that they have in \
         `sentinel monitor NAME ...`"
    )]
    UnknownName {
        /// `host:port` of the server or the sentinels.
        at: String,
        /// The name at the end of the URL.
        name: String,
    },
    /// Wrong or missing user and password.
    #[error(
        "Redis at {at} refuses the login; set the user and password in the URL: \
        redis://USER:PASSWORD@HOST:PORT"
    )]
    Login {
        /// `host:port` of the server or the sentinels.
        at: String,
    },
    /// The server is a replica.
    #[error(
        "Redis at {at} is a replica and takes no writes; name its primary, or the sentinels that know it: \
         redis+sentinel://..."
    )]
    Replica {
        /// `host:port` of the server or the sentinels.
        at: String,
    },
    /// The server is older than the scripts need.
    #[error("Redis at {at} is version {version}; at least 7.0 is needed")]
    TooOld {
        /// `host:port` of the server or the sentinels.
        at: String,
        /// The version that was found.
        version: String,
    },
    /// The user lacks a right that the scripts need.
    #[error(
        "Redis at {at} does not permit what is needed ({what}); give its user these rights: \
         ~* +@all -@admin +info +cluster|slots +script|load"
    )]
    NotPermitted {
        /// `host:port` of the server or the sentinels.
        at: String,
        /// The server's or driver's message.
        what: String,
    },
    /// The server evicts keys when its memory is full.
    #[error(
        "Redis at {at} has maxmemory-policy {policy} and would evict queue entries and holds when it is \
        full; set \
         noeviction, or store.redis.allow_unsafe"
    )]
    Evicts {
        /// `host:port` of the server or the sentinels.
        at: String,
        /// Its `maxmemory-policy`.
        policy: String,
    },
    /// A restart would empty the server and its replicas.
    #[error(
        "Redis at {at} has replicas and no persistence: when it restarts, it comes back empty and empties \
        them too; \
         set appendonly yes, or store.redis.allow_unsafe"
    )]
    NotPersistent {
        /// `host:port` of the server or the sentinels.
        at: String,
    },
}
