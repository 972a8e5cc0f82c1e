//! A beacon server that can be made to fail, over plain HTTP or TLS.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivatePkcs8KeyDer};
use serde_json::Value;
use stagedoor::{
    demo::sandbox_beacon::SandboxSigner,
    kernel::{Clock, SystemClock, Timestamp},
    platform::drand::ChainKey,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

pub const CHAIN: &str = "00000000000000000000000000000000000000000000000000000000000000aa";
pub const PERIOD_S: u32 = 3;

/// How the server responds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BeaconMode {
    Normal,
    ServerError,
    Garbage,
    OtherRound,
    /// The randomness matches the signature, but another key has signed.
    Forged,
    /// Closes the connection after 20 s without a response, longer than any client waits.
    Hangs,
}

impl BeaconMode {
    pub const FAULTY: [Self; 5] = [
        Self::ServerError,
        Self::Garbage,
        Self::OtherRound,
        Self::Forged,
        Self::Hangs,
    ];

    fn of(number: u8) -> Self {
        Self::FAULTY
            .into_iter()
            .find(|mode| *mode as u8 == number)
            .unwrap_or(Self::Normal)
    }
}

/// A running server; it listens until the test ends.
pub struct Beacon {
    pub url: String,
    pub genesis_at: Timestamp,
    /// Its self-signed certificate in DER.
    pub certificate: Option<Vec<u8>>,
    pem: Option<String>,
    state: Arc<BeaconState>,
}

struct BeaconState {
    signer: SandboxSigner,
    genesis_at: Timestamp,
    clock: SystemClock,
    mode: AtomicU8,
    requests: AtomicUsize,
}

impl Beacon {
    pub async fn plain() -> Self {
        Self::start(None).await
    }

    pub async fn over_tls() -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key.into())
            .unwrap();
        let mut beacon = Self::start(Some(TlsAcceptor::from(Arc::new(config)))).await;
        (beacon.certificate, beacon.pem) = (Some(cert.der().to_vec()), Some(cert.pem()));
        beacon
    }

    async fn start(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "{}://{}",
            if tls.is_some() { "https" } else { "http" },
            listener.local_addr().unwrap()
        );
        let clock = SystemClock::new();
        let genesis_at = Timestamp::from_secs(clock.now().as_secs() - 600);
        let state = Arc::new(BeaconState {
            signer: SandboxSigner::of(CHAIN),
            genesis_at,
            clock,
            mode: AtomicU8::new(BeaconMode::Normal as u8),
            requests: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => state.serve(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                state.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            url,
            genesis_at,
            certificate: None,
            pem: None,
            state,
        }
    }

    /// The `[sales.draw]` section that names this beacon.
    pub fn config(&self) -> String {
        let (url, genesis_at, key) = (&self.url, self.genesis_at, self.public_key());
        format!(
            "[sales.draw]\nbeacon_url = \"{url}\"\nchain = \"{CHAIN}\"\ngenesis_at = \"{genesis_at}\"\n\
             period_s = {PERIOD_S}\npublic_key = \"{key}\"\n"
        )
    }

    pub fn public_key(&self) -> ChainKey {
        self.state.signer.public_key()
    }

    /// Writes its certificate as a file of trusted roots.
    pub fn certificate_file(&self, dir: &Path) -> PathBuf {
        let file = dir.join("roots.pem");
        std::fs::write(&file, self.pem.as_ref().expect("it speaks TLS")).unwrap();
        file
    }

    /// Sets how it responds from now on; returns the number of requests so far.
    pub fn set_mode(&self, mode: BeaconMode) -> usize {
        self.state.mode.store(mode as u8, Ordering::SeqCst);
        self.requests()
    }

    /// The number of requests so far.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// The latest published round.
    pub fn latest(&self) -> u64 {
        self.state.latest()
    }
}

impl BeaconState {
    fn latest(&self) -> u64 {
        self.clock.now().since(self.genesis_at).as_secs() / u64::from(PERIOD_S) + 1
    }

    /// Serves one HTTP/1.1 request and closes the connection.
    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) if request.len() < 8_192 => request.push(byte),
                _ => return,
            }
        }
        self.requests.fetch_add(1, Ordering::SeqCst);
        let request = String::from_utf8_lossy(&request);
        let path = request.split(' ').nth(1).unwrap_or_default();
        let round = path
            .strip_prefix(&format!("/{CHAIN}/public/"))
            .and_then(|round| round.parse::<u64>().ok());
        let answer = match round {
            Some(round) if (1..=self.latest()).contains(&round) => self.answer(round).await,
            _ => None,
        };
        let (status, body) = answer.map_or(("404 Not Found", String::new()), |(status, body)| {
            (status, body.to_string())
        });
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all((head + &body).as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    async fn answer(&self, round: u64) -> Option<(&'static str, Value)> {
        let right = self.signer.answer(round);
        Some(match BeaconMode::of(self.mode.load(Ordering::SeqCst)) {
            BeaconMode::Normal => ("200 OK", right),
            BeaconMode::ServerError => ("500 Internal Server Error", right),
            BeaconMode::Garbage => ("200 OK", Value::from("round and round it goes")),
            BeaconMode::OtherRound => ("200 OK", self.signer.answer(round - 1)),
            BeaconMode::Forged => {
                let mut forged = SandboxSigner::of("another network").answer(round);
                forged["round"] = round.into();
                ("200 OK", forged)
            }
            BeaconMode::Hangs => {
                tokio::time::sleep(Duration::from_secs(20)).await;
                return None;
            }
        })
    }
}
