//! The configuration: built-in defaults, then a file, then the environment. Unknown keys and invalid values
//! are refused with the key, where it was set, and what would be right.

mod checks;
mod contexts;
mod derived;
mod environment;
mod load;
mod origins;
mod problem;
mod sales;
mod secrets;
mod sections;
mod storage;
mod suggestion;
#[cfg(test)]
mod tests;
mod units;

pub use self::{
    load::{REFERENCE, load, show},
    problem::{ConfigError, Problem},
    sales::{DrawSettings, PerformanceSettings, QueueOrder, SaleSettings, SignIn},
    secrets::{DatabaseUrl, Secret},
    sections::{
        CheckoutSettings, DataSettings, EventsSettings, GatewayKind, GatewaySettings, HandoffSettings,
        KeysSettings, LimitSettings, LogFormat, LogSettings, OidcSettings, ProofOfWorkSettings,
        ServerSettings, Settings, ShopSettings,
    },
    storage::{
        BoxOfficeSettings, DatabaseLocation, DatabaseSettings, OwnRedisSettings, RedisSettings, StoreKind,
        StoreSettings, WaitingRoomSettings,
    },
};
