//! The time of Redis servers, by which they expire holds and admit visitors.

use crate::{
    kernel::Timestamp,
    platform::redis::{client::Redis, errors::ConnectError, url::HostPort},
};

impl Redis {
    /// The primaries, by `host:port`.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn primary_hosts(&self) -> Result<Vec<String>, ConnectError> {
        let primaries = self.primaries().await?;
        Ok(primaries.iter().map(ToString::to_string).collect())
    }

    /// The time of this primary, `host:port`, on a connection of its own.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn server_time(&self, primary: &str) -> Result<Timestamp, ConnectError> {
        let host = primary
            .rsplit_once(':')
            .and_then(|(name, port)| Some(HostPort::new(name, port.parse().ok()?)))
            .ok_or(ConnectError::NoHost)?;
        let timeout = Some(self.config().command_timeout);
        let mut connection = self.open(self.url().connection_to(&host), timeout).await?;
        let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut connection).await?;
        Ok(Timestamp::from_millis(seconds * 1_000 + micros / 1_000))
    }
}
