//! The usual way, running: the baseline server on a Redis of its own, and nginx with a static file.

use anyhow::Context;
use serde::Deserialize;
use testkit::{Nginx, RedisServer};

use crate::{
    baseline_table::{
        fixture::{local_server, start_baseline},
        paired::{Server, WORKERS},
    },
    baselines::usual_queue,
    http1::HttpRequest,
    process::Process,
};

/// The name of the static file.
pub(super) const STATIC_STATUS: &str = "/status.json";

/// The baseline server and its Redis.
pub(super) struct UsualWay {
    // Fields drop in order: the server stops before its Redis.
    _process: Process,
    pub(super) server: Server,
    pub(super) redis: RedisServer,
}

impl UsualWay {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let redis = RedisServer::start().await?;
        let (process, server) = start_baseline(&redis.url()).await?;
        Ok(Self {
            _process: process,
            server,
            redis,
        })
    }

    /// Queue tokens for as many visitors as there are workers.
    pub(super) async fn tokens(&self) -> anyhow::Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Joined {
            token: String,
        }
        let mut tokens = Vec::new();
        for _ in 0..WORKERS {
            let reply = self
                .server
                .client
                .send(&HttpRequest::post(usual_queue::QUEUE))
                .await?;
            let joined: Joined = reply.json().context("joining the usual queue")?;
            tokens.push(joined.token);
        }
        Ok(tokens)
    }
}

/// nginx with the status as a static file.
pub(super) struct StaticStatus {
    _nginx: Nginx,
    pub(super) server: Server,
}

impl StaticStatus {
    pub(super) async fn start(status: &[u8]) -> anyhow::Result<Self> {
        let nginx = Nginx::serve_file(STATIC_STATUS, status).await?;
        // nginx does its work in child processes, so its CPU time is not measured: process id 0.
        let server = local_server(nginx.port(), 0);
        Ok(Self {
            _nginx: nginx,
            server,
        })
    }
}
