//! Nodes: processes that serve one world's sale, alone or behind a balancer.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::Method;
use stagedoor::{
    kernel::{Clock, SystemClock},
    platform::http_client::HttpClient,
};
use testkit::process::free_port;

/// What all processes of one world share.
#[derive(Clone)]
pub struct Site {
    /// The folder with all files of this world.
    pub dir: PathBuf,
    pub clock: Arc<SystemClock>,
    pub client: HttpClient,
}

impl Site {
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("stagedoor.toml")
    }

    /// The logs of all processes over all their starts, one process after the other.
    pub fn log(&self) -> String {
        let mut files: Vec<PathBuf> = fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        files.retain(|file| file.extension().is_some_and(|suffix| suffix == "log"));
        files.sort();
        files
            .iter()
            .map(|file| fs::read_to_string(file).unwrap_or_default())
            .collect()
    }
}

/// One process, which can be restarted on the same ports.
pub struct Node {
    pub public: SocketAddr,
    pub admin: SocketAddr,
    site: Site,
    roles: &'static str,
    data: PathBuf,
    env: Vec<(&'static str, String)>,
    /// A program that sets limits and then becomes the node.
    pub runner: Vec<String>,
    child: Option<Child>,
}

/// This port of this machine.
pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

impl Node {
    /// A node that is not started yet; `env` overrides the world's configuration.
    pub fn new(site: &Site, roles: &'static str, data: PathBuf, env: Vec<(&'static str, String)>) -> Self {
        let [public, admin] = [free_port(), free_port()].map(|port| loopback(port.unwrap()));
        Self {
            public,
            admin,
            site: site.clone(),
            roles,
            data,
            env,
            runner: Vec::new(),
            child: None,
        }
    }

    pub fn set(&mut self, variable: &'static str, value: String) {
        self.env.retain(|(known, _)| *known != variable);
        self.env.push((variable, value));
    }

    /// The current value of a variable.
    pub fn variable(&self, variable: &str) -> String {
        self.env
            .iter()
            .find(|(known, _)| *known == variable)
            .expect("it was set")
            .1
            .clone()
    }

    /// Starts a process that must exit by itself; returns its status and output.
    pub async fn fails_to_start(&mut self) -> (ExitStatus, String) {
        let before = self.log().len();
        self.spawn();
        let status = self.ended().await;
        (status, self.log().split_off(before))
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&mut self) {
        self.spawn();
        let clock = &self.site.clock;
        let until = clock.monotonic() + Duration::from_mins(1);
        while self.readiness().await != Some(204) {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none(),
                "the node ended with {ended:?} before it was ready:\n{}",
                self.site.log()
            );
            assert!(clock.monotonic() < until, "not ready:\n{}", self.site.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Starts it without waiting until it is ready.
    pub fn launch(&mut self) {
        self.spawn();
    }

    fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .unwrap();
        let mut words = self.runner.clone();
        words.push(env!("CARGO_BIN_EXE_stagedoor").into());
        let child = Command::new(&words[0])
            .args(&words[1..])
            .args(["serve", "--roles", self.roles, "--config"])
            .arg(self.site.config_file())
            .args([
                "--listen",
                &self.public.to_string(),
                "--admin-listen",
                &self.admin.to_string(),
                "--data",
            ])
            .arg(&self.data)
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
    }

    fn log_file(&self) -> PathBuf {
        self.site.dir.join(format!("{}.log", self.public.port()))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub fn data(&self) -> &PathBuf {
        &self.data
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGSTOP: connections stay open and no request is answered until [`Node::wake`].
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn wake(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(
            Command::new("kill")
                .args([&format!("-{name}"), &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// The status code of the readiness check.
    pub async fn readiness(&self) -> Option<u16> {
        let uri = format!("http://{}/health/ready", self.admin).parse().unwrap();
        self.site
            .client
            .send(Method::GET, uri, &[], Bytes::new())
            .await
            .ok()
            .map(|answer| answer.status.as_u16())
    }

    /// SIGTERM.
    pub fn tell_to_stop(&self) {
        self.signal("TERM");
    }

    /// SIGTERM; returns the exit status once the process has drained.
    pub async fn stop(&mut self) -> ExitStatus {
        self.tell_to_stop();
        self.ended().await
    }

    /// Waits for the process to exit; returns its status.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let until = self.site.clock.monotonic() + Duration::from_secs(50);
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if self.site.clock.monotonic() > until {
                let _ = child.kill();
                panic!("still running after 50 s:\n{}", self.site.log());
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
