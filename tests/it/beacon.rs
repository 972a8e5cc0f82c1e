//! A beacon's server with moods, plain or over TLS.

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

/// What it does with who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mood {
    Well,
    Fails,
    Garbage,
    OtherRound,
    /// Randomness and signature belong together, but nobody of the network has signed.
    Forged,
    /// Says nothing until every caller has lost patience.
    Late,
}

impl Mood {
    pub const ILL: [Self; 5] = [
        Self::Fails,
        Self::Garbage,
        Self::OtherRound,
        Self::Forged,
        Self::Late,
    ];

    fn of(number: u8) -> Self {
        Self::ILL
            .into_iter()
            .find(|mood| *mood as u8 == number)
            .unwrap_or(Self::Well)
    }
}

/// A server that listens until the test ends.
pub struct Beacon {
    pub url: String,
    pub genesis_at: Timestamp,
    /// For whom it has a certificate that nobody else has signed; in DER.
    pub certificate: Option<Vec<u8>>,
    pem: Option<String>,
    inside: Arc<Inside>,
}

struct Inside {
    signer: SandboxSigner,
    genesis_at: Timestamp,
    clock: SystemClock,
    mood: AtomicU8,
    asked: AtomicUsize,
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
        let inside = Arc::new(Inside {
            signer: SandboxSigner::of(CHAIN),
            genesis_at,
            clock,
            mood: AtomicU8::new(Mood::Well as u8),
            asked: AtomicUsize::new(0),
        });
        let of_all = Arc::clone(&inside);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (inside, tls) = (Arc::clone(&of_all), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => inside.serve(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                inside.serve(stream).await;
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
            inside,
        }
    }

    /// What a sale's draw says of it.
    pub fn config(&self) -> String {
        let (url, genesis_at, key) = (&self.url, self.genesis_at, self.public_key());
        format!(
            "[sales.draw]\nbeacon_url = \"{url}\"\nchain = \"{CHAIN}\"\ngenesis_at = \"{genesis_at}\"\nperiod_s = {PERIOD_S}\npublic_key = \"{key}\"\n"
        )
    }

    pub fn public_key(&self) -> ChainKey {
        self.inside.signer.public_key()
    }

    /// Its certificate as a file of the roots that are trusted.
    pub fn certificate_file(&self, dir: &Path) -> PathBuf {
        let file = dir.join("roots.pem");
        std::fs::write(&file, self.pem.as_ref().expect("it speaks TLS")).unwrap();
        file
    }

    /// From now on; gives how often it has been asked so far.
    pub fn is(&self, mood: Mood) -> usize {
        self.inside.mood.store(mood as u8, Ordering::SeqCst);
        self.asked()
    }

    pub fn asked(&self) -> usize {
        self.inside.asked.load(Ordering::SeqCst)
    }

    /// The latest round that is over.
    pub fn latest(&self) -> u64 {
        self.inside.latest()
    }
}

impl Inside {
    fn latest(&self) -> u64 {
        self.clock.now().since(self.genesis_at).as_secs() / u64::from(PERIOD_S) + 1
    }

    /// One question of HTTP/1.1, one answer, and the connection is closed.
    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) if asked.len() < 8_192 => asked.push(byte),
                _ => return,
            }
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        let asked = String::from_utf8_lossy(&asked);
        let path = asked.split(' ').nth(1).unwrap_or_default();
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
        Some(match Mood::of(self.mood.load(Ordering::SeqCst)) {
            Mood::Well => ("200 OK", right),
            Mood::Fails => ("500 Internal Server Error", right),
            Mood::Garbage => ("200 OK", Value::from("round and round it goes")),
            Mood::OtherRound => ("200 OK", self.signer.answer(round - 1)),
            Mood::Forged => {
                let mut forged = SandboxSigner::of("nobody's").answer(round);
                forged["round"] = round.into();
                ("200 OK", forged)
            }
            Mood::Late => {
                tokio::time::sleep(Duration::from_secs(20)).await;
                return None;
            }
        })
    }
}
