//! Client of the drand randomness beacon: `GET {url}/{chain}/public/{round}`.
//!
//! A round's randomness is the SHA-256 of its signature, and the signature is verified under the chain's
//! public key ([`ChainKey::verify`]). Therefore neither the server nor the network path needs to be trusted.

mod signature;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Uri};
use serde::Deserialize;

pub use self::signature::{ChainKey, InvalidChainKey, QUICKNET, QUICKNET_KEY, SCHEME};
pub(crate) use self::signature::{DOMAIN, message};
use super::{
    http_client::{CallError, HttpClient, TrustStore},
    signing::{from_hex, sha256},
};
use crate::kernel::Entropy;

/// Time limit of one request.
const TIMEOUT: Duration = Duration::from_secs(3);
/// A response has some hundreds of bytes.
const RESPONSE_BYTES_MAX: usize = 16 * 1_024;
/// Requests for one round before [`DrandClient::fetch_round`] fails.
const TRIES: u32 = 3;
/// The pause before the second request; doubled before each further one.
const PAUSE: Duration = Duration::from_millis(250);

/// A client of one chain of the network, at one of its servers.
pub struct DrandClient {
    url: String,
    chain: String,
    key: ChainKey,
    http: HttpClient,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for DrandClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Drand({}/{})", self.url, self.chain)
    }
}

/// A round's verified value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrandRound {
    /// The SHA-256 of the signature.
    pub randomness: [u8; 32],
    /// The network's signature of the round's number (48 bytes).
    pub signature: Vec<u8>,
}

/// Why a round could not be fetched or is not genuine.
#[derive(Debug, thiserror::Error)]
pub enum DrandError {
    /// The configured URL cannot be parsed.
    #[error("the beacon's URL is not valid")]
    InvalidUrl,
    /// No response.
    #[error(transparent)]
    Call(#[from] CallError),
    /// An error status; 404 while the round is in the future.
    #[error("the beacon returned {0}")]
    Status(http::StatusCode),
    /// The body is not a round.
    #[error("the beacon's response is not a round")]
    Malformed,
    /// Another round than the requested one.
    #[error("the beacon's response is about another round")]
    WrongRound,
    /// The randomness does not belong to the signature.
    #[error("the randomness is not the hash of the signature")]
    RandomnessMismatch,
    /// The signature is forged.
    #[error("the signature is not valid under the chain's public key")]
    InvalidSignature,
}

#[derive(Deserialize)]
struct RoundBody {
    round: u64,
    randomness: String,
    signature: String,
}

impl DrandClient {
    /// `url` has no trailing slash; `chain` is the chain's hash. `trust_store` verifies the server over
    /// HTTPS.
    #[must_use]
    pub fn new(
        url: &str,
        chain: &str,
        key: ChainKey,
        trust_store: &TrustStore,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let http = HttpClient::with_trust_store(TIMEOUT, RESPONSE_BYTES_MAX, trust_store);
        Self {
            url: url.to_owned(),
            chain: chain.to_owned(),
            key,
            http,
            entropy,
        }
    }

    /// Fetches and verifies a past round. Retries a few times, with growing pauses that differ from node to
    /// node.
    ///
    /// # Errors
    /// [`DrandError`] of the last attempt.
    pub async fn fetch_round(&self, round: u64) -> Result<DrandRound, DrandError> {
        let mut attempt = 0;
        loop {
            match self.fetch_once(round).await {
                Err(_) if attempt + 1 < TRIES => {
                    tokio::time::sleep(PAUSE * 2_u32.pow(attempt) + PAUSE.mul_f64(self.entropy.unit())).await;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    async fn fetch_once(&self, round: u64) -> Result<DrandRound, DrandError> {
        let uri: Uri = format!("{}/{}/public/{round}", self.url, self.chain)
            .parse()
            .map_err(|_| DrandError::InvalidUrl)?;
        let answer = self.http.send(Method::GET, uri, &[], Bytes::new()).await?;
        if !answer.status.is_success() {
            return Err(DrandError::Status(answer.status));
        }
        parse_round(
            &answer.json().map_err(|_| DrandError::Malformed)?,
            round,
            &self.key,
        )
    }
}

fn parse_round(answer: &RoundBody, round: u64, key: &ChainKey) -> Result<DrandRound, DrandError> {
    if answer.round != round {
        return Err(DrandError::WrongRound);
    }
    let randomness = from_hex(&answer.randomness)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(DrandError::Malformed)?;
    let signature = from_hex(&answer.signature).ok_or(DrandError::Malformed)?;
    if sha256(&signature) != randomness {
        return Err(DrandError::RandomnessMismatch);
    }
    if !key.verify(round, &signature) {
        return Err(DrandError::InvalidSignature);
    }
    Ok(DrandRound {
        randomness,
        signature,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{demo::sandbox_beacon::SandboxSigner, platform::signing::hex};

    #[test]
    fn a_round_is_accepted_only_with_its_signature() {
        let (ours, other) = (SandboxSigner::of("ours"), SandboxSigner::of("another chain"));
        let signature = ours.sign(7);
        let answer = |round, randomness: &str, signature: &str| {
            parse_round(
                &RoundBody {
                    round,
                    randomness: randomness.to_owned(),
                    signature: signature.to_owned(),
                },
                7,
                &ours.public_key(),
            )
        };
        let right = hex(&sha256(&signature));
        let accepted = DrandRound {
            randomness: sha256(&signature),
            signature: signature.to_vec(),
        };
        assert_eq!(answer(7, &right, &hex(&signature)).unwrap(), accepted);
        assert!(matches!(
            answer(8, &right, &hex(&signature)),
            Err(DrandError::WrongRound)
        ));
        assert!(matches!(
            answer(7, &hex(&[1; 32]), &hex(&signature)),
            Err(DrandError::RandomnessMismatch)
        ));
        assert!(matches!(
            answer(7, &right[..62], &hex(&signature)),
            Err(DrandError::Malformed)
        ));
        assert!(matches!(answer(7, &right, "no hex"), Err(DrandError::Malformed)));
        for forged in [ours.sign(8), other.sign(7)] {
            assert!(matches!(
                answer(7, &hex(&sha256(&forged)), &hex(&forged)),
                Err(DrandError::InvalidSignature)
            ));
        }
        assert!(matches!(
            answer(7, &hex(&sha256(&[])), ""),
            Err(DrandError::InvalidSignature)
        ));
    }
}
