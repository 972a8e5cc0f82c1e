//! nginx before nodes of the house, with the very file that is deployed: `config/deploy/nginx.conf`.

use std::{
    fmt::Write as _,
    fs, io,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use tokio::net::TcpStream;

use super::{Folder, LOOK_EVERY, PATIENCE, Process, ServerError, free_port, signal};

const NAME: &str = "nginx";
const STARTS_MAX: u32 = 20;
const DEPLOYED: &str = include_str!("../../../config/deploy/nginx.conf");

/// A running balancer; ended and removed when dropped.
pub struct Nginx {
    port: u16,
    process: Option<Process>,
    folder: Folder,
}

impl Nginx {
    /// Starts one before these nodes and waits until it takes connections. Where every node has all roles, both lists are
    /// the same.
    ///
    /// # Errors
    /// [`ServerError`]: it is not installed, or did not start.
    pub async fn start(
        waiting_rooms: &[SocketAddr],
        box_offices: &[SocketAddr],
    ) -> Result<Self, ServerError> {
        let mut nginx = Self {
            port: 0,
            process: None,
            folder: Folder::new("nginx")?,
        };
        for _ in 0..STARTS_MAX {
            // A port that is free when it is looked may be taken when it is used: then another one is tried.
            nginx.port = free_port()?;
            if nginx.bring_up(waiting_rooms, box_offices).await? {
                return Ok(nginx);
            }
        }
        Err(ServerError::DidNotStart {
            server: NAME,
            log: nginx.log(),
        })
    }

    /// `http://127.0.0.1:PORT`, for browsers.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has complained of, and its line for each request.
    #[must_use]
    pub fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        read("error.log") + &read("access.log")
    }

    async fn bring_up(
        &mut self,
        waiting_rooms: &[SocketAddr],
        box_offices: &[SocketAddr],
    ) -> Result<bool, ServerError> {
        let file = self.folder.path().join("nginx.conf");
        fs::write(
            &file,
            adapted(self.folder.path(), self.port, waiting_rooms, box_offices)?,
        )?;
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("error.log"))?;
        let mut command = Command::new("nginx");
        command
            .arg("-p")
            .arg(self.folder.path())
            .arg("-c")
            .arg(&file)
            .args(["-g", "daemon off;"])
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut process =
            Process::start(&mut command, "TERM", self.folder.path()).map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => ServerError::NotInstalled(NAME),
                _ => ServerError::Io(e),
            })?;
        let pid_file = self.folder.path().join("nginx.pid");
        let up = tokio::time::timeout(PATIENCE, async {
            // It writes its pid once it listens, so whoever answers then is not another one on its port.
            let own = process.pid().to_string();
            loop {
                if process.ended()?.is_some() {
                    return Ok::<_, io::Error>(false);
                }
                let is_there = fs::read_to_string(&pid_file).is_ok_and(|pid| pid.trim() == own);
                if is_there && TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                    return Ok(true);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        let up = up.await.unwrap_or(Ok(false))?;
        if up {
            self.process = Some(process);
        } else {
            signal("TERM", &[process.pid()])?;
            process.wait();
        }
        Ok(up)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            let _ = signal("TERM", &[process.pid()]);
            process.wait();
        }
    }
}

/// The deployed file with this machine's places, port and nodes in it, and nothing else changed.
fn adapted(
    folder: &Path,
    port: u16,
    waiting_rooms: &[SocketAddr],
    box_offices: &[SocketAddr],
) -> Result<String, ServerError> {
    let folder = folder.display();
    let mut text = DEPLOYED.to_owned();
    let mut put = |stands: &str, instead: &str| {
        if !text.contains(stands) {
            return Err(ServerError::Refused {
                server: NAME,
                what: format!("the deployed file has no `{stands}`"),
            });
        }
        text = text.replacen(stands, instead, 1);
        Ok(())
    };
    // Only root may choose another user, and then the folder is root's.
    put("user www-data;", if is_root()? { "user root;" } else { "" })?;
    put("pid /run/nginx.pid;", &format!("pid {folder}/nginx.pid;"))?;
    put(
        "error_log /var/log/nginx/error.log",
        &format!("error_log {folder}/error.log"),
    )?;
    put(
        "access_log /var/log/nginx/access.log",
        &format!("access_log {folder}/access.log"),
    )?;
    put(
        "proxy_cache_path /var/cache/nginx/stagedoor",
        &format!("proxy_cache_path {folder}/cache"),
    )?;
    put("listen 80 ", &format!("listen 127.0.0.1:{port} "))?;
    put("worker_processes auto;", "worker_processes 2;")?;
    put("worker_rlimit_nofile 131072;", "")?;
    put("worker_connections 65536;", "worker_connections 2048;")?;
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"));
    put("http {\n", &format!("http {{\n{}", temporary.concat()))?;
    Ok(with_nodes(
        &with_nodes(&text, "10.0.1.", waiting_rooms),
        "10.0.2.",
        box_offices,
    ))
}

/// Each upstream's lines with the nodes of this network give way to the given ones; what follows the address stays.
fn with_nodes(text: &str, network: &str, nodes: &[SocketAddr]) -> String {
    let mut out = String::new();
    let mut is_first = true;
    for line in text.lines() {
        let more = line
            .trim_start()
            .strip_prefix("server ")
            .filter(|it| it.starts_with(network))
            .and_then(|it| it.split_once(' '));
        match more {
            None => {
                out.push_str(line);
                out.push('\n');
            }
            Some((_, more)) if is_first => {
                for node in nodes {
                    let _ = writeln!(out, "        server {node} {more}");
                }
                is_first = false;
            }
            Some(_) => {}
        }
    }
    out
}

fn is_root() -> io::Result<bool> {
    Ok(fs::metadata(PathBuf::from("/proc/self"))?.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deployed_file_is_taken_as_it_is() {
        let node = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let text = adapted(
            Path::new("/tmp/x"),
            7_000,
            &[node(1), node(2), node(3)],
            &[node(4)],
        )
        .unwrap();
        for line in [
            "        server 127.0.0.1:1 max_fails=1 fail_timeout=1s;",
            "        server 127.0.0.1:3 max_fails=1 fail_timeout=1s;",
            "        server 127.0.0.1:4 max_fails=1 fail_timeout=1s;",
            "        listen 127.0.0.1:7000 default_server backlog=16384;",
        ] {
            assert_eq!(text.lines().filter(|it| *it == line).count(), 1, "{line}");
        }
        assert!(
            !text
                .lines()
                .any(|line| line.trim_start().starts_with("server 10.")),
            "{text}"
        );
        assert!(!text.contains("/var/") && !text.contains("/run/"), "{text}");
    }
}
