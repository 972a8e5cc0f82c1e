//! nginx: in front of nodes with the deployed configuration file itself (`config/deploy/nginx.conf`), as the
//! server of a shop with the files of `config/deploy/under-path`, or as a static file server.

use std::{
    fmt::Write as _,
    fs, io,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use tokio::net::TcpStream;

use tempfile::TempDir;

use crate::{
    error::ServerError,
    process::{POLL_INTERVAL, Process, START_TIMEOUT, free_port, signal, temp_folder},
};

const NAME: &str = "nginx";
const STARTS_MAX: u32 = 20;
/// Every kind of temporary file has a path of its own, and the default paths are not writable.
const TEMPORARY: [&str; 5] = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
/// The folder with the deployed `errors/`.
const ERROR_PAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/deploy");
const DEPLOYED: &str = include_str!("../../../config/deploy/nginx.conf");
const UNDER_PATH_HTTP: &str = include_str!("../../../config/deploy/under-path/http.conf");
const UNDER_PATH_LOCATIONS: &str = include_str!("../../../config/deploy/under-path/locations.conf");

/// A running nginx; stopped and removed when dropped.
pub struct Nginx {
    port: u16,
    process: Option<Process>,
    folder: TempDir,
}

impl Nginx {
    /// Starts nginx in front of these nodes and waits until it accepts connections. Where every node has all
    /// roles, both lists are the same.
    ///
    /// # Errors
    /// [`ServerError::NotInstalled`], [`ServerError::DidNotStart`].
    pub async fn start(
        waiting_rooms: &[SocketAddr],
        box_offices: &[SocketAddr],
    ) -> Result<Self, ServerError> {
        Self::start_with(temp_folder("nginx")?, |folder, port| {
            local_config(folder, port, waiting_rooms, box_offices)
        })
        .await
    }

    /// Starts nginx as the server of a shop, which passes everything on to `shop` and has rules of its own for
    /// scripts and headers. With `is_on`, the one line that includes the locations of the service under
    /// `/tickets` is there; without, it is a comment.
    ///
    /// # Errors
    /// As [`Nginx::start`].
    pub async fn of_shop(shop: SocketAddr, nodes: &[SocketAddr], is_on: bool) -> Result<Self, ServerError> {
        Self::start_with(temp_folder("nginx")?, |folder, port| {
            shop_config(folder, port, shop, nodes, is_on)
        })
        .await
    }

    /// Starts nginx as a static server of one file, tuned as for a cache: sendfile, open file cache, no
    /// access log, connections kept for ever.
    ///
    /// # Errors
    /// As [`Nginx::start`].
    pub async fn serve_file(path: &str, content: &[u8]) -> Result<Self, ServerError> {
        let folder = temp_folder("nginx")?;
        let root = folder.path().join("www");
        fs::create_dir_all(&root)?;
        fs::write(root.join(path.trim_start_matches('/')), content)?;
        Self::start_with(folder, static_config).await
    }

    async fn start_with(
        folder: TempDir,
        config: impl Fn(&Path, u16) -> Result<String, ServerError>,
    ) -> Result<Self, ServerError> {
        let mut nginx = Self {
            port: 0,
            process: None,
            folder,
        };
        for _ in 0..STARTS_MAX {
            // A free port may be taken before nginx binds it; then another one is tried.
            nginx.port = free_port()?;
            let text = config(nginx.folder.path(), nginx.port)?;
            if nginx.try_start(&text).await? {
                return Ok(nginx);
            }
        }
        Err(ServerError::DidNotStart {
            server: NAME,
            log: nginx.log(),
        })
    }

    /// The base URL, `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port that nginx listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The error log followed by the access log.
    #[must_use]
    pub fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        read("error.log") + &read("access.log")
    }

    async fn try_start(&mut self, text: &str) -> Result<bool, ServerError> {
        let config = self.folder.path().join("nginx.conf");
        fs::write(&config, text)?;
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("error.log"))?;
        let mut command = Command::new("nginx");
        command
            .arg("-p")
            .arg(self.folder.path())
            .arg("-c")
            .arg(&config)
            .args(["-g", "daemon off;"])
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut process =
            Process::start(&mut command, "TERM", self.folder.path()).map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => ServerError::NotInstalled(NAME),
                _ => ServerError::Io(e),
            })?;
        let pid_file = self.folder.path().join("nginx.pid");
        let up = tokio::time::timeout(START_TIMEOUT, async {
            // nginx writes its pid file after it listens, so the connection is not answered by another
            // process.
            let own = process.pid().to_string();
            loop {
                if process.try_wait()?.is_some() {
                    return Ok::<_, io::Error>(false);
                }
                let is_listening = fs::read_to_string(&pid_file).is_ok_and(|pid| pid.trim() == own);
                if is_listening && TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                    return Ok(true);
                }
                tokio::time::sleep(POLL_INTERVAL).await;
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

/// The deployed file with local paths, port and nodes; everything else is unchanged.
fn local_config(
    folder: &Path,
    port: u16,
    waiting_rooms: &[SocketAddr],
    box_offices: &[SocketAddr],
) -> Result<String, ServerError> {
    let folder = folder.display();
    let mut text = DEPLOYED.to_owned();
    let mut replace = |deployed: &str, local: &str| replace_in(&mut text, deployed, local);
    // Only root may set the worker's user, and a folder made by root is readable by root alone.
    replace("user www-data;", if is_root()? { "user root;" } else { "" })?;
    replace("pid /run/nginx.pid;", &format!("pid {folder}/nginx.pid;"))?;
    replace(
        "error_log /var/log/nginx/error.log",
        &format!("error_log {folder}/error.log"),
    )?;
    replace(
        "access_log /var/log/nginx/access.log",
        &format!("access_log {folder}/access.log"),
    )?;
    replace(
        "proxy_cache_path /var/cache/nginx/stagedoor",
        &format!("proxy_cache_path {folder}/cache"),
    )?;
    replace("listen 80 ", &format!("listen 127.0.0.1:{port} "))?;
    replace("root /etc/stagedoor;", &format!("root {ERROR_PAGES};"))?;
    replace("worker_processes auto;", "worker_processes 2;")?;
    replace("worker_rlimit_nofile 131072;", "")?;
    replace("worker_connections 65536;", "worker_connections 2048;")?;
    let temporary = TEMPORARY.map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"));
    replace("http {\n", &format!("http {{\n{}", temporary.concat()))?;
    Ok(with_nodes(
        &with_nodes(&text, "10.0.1.", waiting_rooms),
        "10.0.2.",
        box_offices,
    ))
}

fn replace_in(text: &mut String, deployed: &str, local: &str) -> Result<(), ServerError> {
    if !text.contains(deployed) {
        return Err(ServerError::Rejected {
            server: NAME,
            reason: format!("the deployed file has no `{deployed}`"),
        });
    }
    *text = text.replacen(deployed, local, 1);
    Ok(())
}

/// The configuration of [`Nginx::of_shop`]. The deployed files lie beside it, with local paths and nodes.
fn shop_config(
    folder: &Path,
    port: u16,
    shop: SocketAddr,
    nodes: &[SocketAddr],
    is_on: bool,
) -> Result<String, ServerError> {
    let mut http = with_nodes(UNDER_PATH_HTTP, "10.0.1.", nodes);
    let mut locations = UNDER_PATH_LOCATIONS.to_owned();
    let cache = format!("proxy_cache_path {}/cache", folder.display());
    replace_in(&mut http, "proxy_cache_path /var/cache/nginx/stagedoor", &cache)?;
    let pages = format!("alias {ERROR_PAGES}/errors/;");
    replace_in(&mut locations, "alias /etc/stagedoor/errors/;", &pages)?;
    fs::write(folder.join("http.conf"), http)?;
    fs::write(folder.join("locations.conf"), locations)?;
    let folder = folder.display();
    let user = if is_root()? { "user root;" } else { "" };
    let switch = if is_on { "" } else { "#" };
    let temporary = TEMPORARY
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
        .concat();
    Ok(format!(
        "{user}\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nworker_processes 1;\n\
         events {{ worker_connections 512; }}\n\
         http {{\n{temporary}access_log {folder}/access.log;\n\
         include {folder}/http.conf;\n\
         server {{\n\
         listen 127.0.0.1:{port};\n\
         gzip on;\ngzip_min_length 1;\ngzip_types *;\n\
         add_header Content-Security-Policy \"default-src 'none'\" always;\n\
         proxy_set_header Host $http_host;\n\
         {switch}include {folder}/locations.conf;\n\
         location / {{ proxy_pass http://{shop}; }}\n\
         location ~* \\.(?:css|js|svg)$ {{ proxy_pass http://{shop}; expires 30d; }}\n\
         location = /favicon.ico {{ return 204; }}\n\
         }}\n}}\n"
    ))
}

/// The configuration of [`Nginx::serve_file`].
fn static_config(folder: &Path, port: u16) -> Result<String, ServerError> {
    let folder = folder.display();
    let user = if is_root()? { "user root;" } else { "" };
    let temporary = TEMPORARY
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
        .concat();
    Ok(format!(
        "{user}\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nworker_processes 2;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n{temporary}access_log off;\nsendfile on;\ntcp_nopush on;\n\
         keepalive_requests 1000000000;\nopen_file_cache max=10;\nopen_file_cache_valid 60s;\n\
         default_type application/json;\n\
         server {{ listen 127.0.0.1:{port} backlog=16384; root {folder}/www; }}\n}}\n"
    ))
}

/// Replaces each upstream's `server` lines of this network by the given nodes; parameters after the address
/// stay.
fn with_nodes(text: &str, network: &str, nodes: &[SocketAddr]) -> String {
    let mut out = String::new();
    let mut is_first = true;
    for line in text.lines() {
        let parameters = line
            .trim_start()
            .strip_prefix("server ")
            .filter(|server| server.starts_with(network))
            .and_then(|server| server.split_once(' '));
        match parameters {
            None => {
                out.push_str(line);
                out.push('\n');
            }
            Some((_, parameters)) if is_first => {
                for node in nodes {
                    let _ = writeln!(out, "        server {node} {parameters}");
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
    fn only_local_values_of_the_deployed_file_change() {
        let node = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let text = local_config(
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
            assert_eq!(text.lines().filter(|found| *found == line).count(), 1, "{line}");
        }
        assert!(
            !text
                .lines()
                .any(|line| line.trim_start().starts_with("server 10.")),
            "{text}"
        );
        let mut directives = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let is_of_system = |line: &str| {
            ["/var/", "/run/", "/etc/"]
                .iter()
                .any(|folder| line.contains(folder))
        };
        assert_eq!(directives.find(|line| is_of_system(line)), None, "{text}");
    }
}
