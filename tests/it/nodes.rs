//! Nodes: processes that serve one world's sale, behind a balancer.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use bytes::Bytes;
use http::Method;
use stagedoor::kernel::Clock;

use crate::world::World;

/// One process, started and stopped as often as wanted, always on the same ports.
pub struct Node {
    pub public: SocketAddr,
    pub ops: SocketAddr,
    roles: &'static str,
    data: PathBuf,
    env: Vec<(&'static str, String)>,
    child: Option<Child>,
}

impl Node {
    /// A node that is not started yet, with variables of its own over the world's configuration.
    pub fn new(roles: &'static str, data: PathBuf, env: Vec<(&'static str, String)>) -> Self {
        let (one, two) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (public, ops) = (one.local_addr().unwrap(), two.local_addr().unwrap());
        Self { public, ops, roles, data, env, child: None }
    }

    pub fn set(&mut self, variable: &'static str, value: String) {
        self.env.push((variable, value));
    }

    /// Starts it and waits until it says that it is ready.
    pub async fn start(&mut self, world: &World) {
        assert!(self.child.is_none(), "it runs");
        let log = fs::OpenOptions::new().create(true).append(true).open(world.log_file()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_stagedoor"))
            .args(["serve", "--roles", self.roles, "--config"])
            .arg(world.config_file())
            .args(["--listen", &self.public.to_string(), "--ops-listen", &self.ops.to_string(), "--data"])
            .arg(&self.data)
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let until = world.clock.monotonic() + Duration::from_mins(1);
        while self.readiness(world).await != Some(204) {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the node ended with {ended:?} before it was ready:\n{}", world.log());
            assert!(world.clock.monotonic() < until, "not ready:\n{}", world.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What it says when a balancer asks whether it is ready.
    pub async fn readiness(&self, world: &World) -> Option<u16> {
        let uri = format!("http://{}/health/ready", self.ops).parse().unwrap();
        world.client.call(Method::GET, uri, &[], Bytes::new()).await.ok().map(|answer| answer.status.as_u16())
    }

    /// SIGTERM.
    pub fn tell_to_stop(&self) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// SIGTERM; gives the exit status once the process has drained.
    pub async fn stop(&mut self, world: &World) -> ExitStatus {
        self.tell_to_stop();
        self.ended(world).await
    }

    /// The exit status of a process that was told to stop, once it has drained.
    pub async fn ended(&mut self, world: &World) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let until = world.clock.monotonic() + Duration::from_secs(50);
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if world.clock.monotonic() > until {
                let _ = child.kill();
                panic!("still running 50 s after SIGTERM:\n{}", world.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
