//! A randomness beacon as the drand network serves it: `GET {url}/{chain}/public/{round}`.
//!
//! A round's randomness is the SHA-256 of its signature, and the signature is the network's ([`ChainKey::signed`]): both are
//! checked here, so it does not matter whose server is asked, nor by which way. Over `https` the server's certificate is
//! checked against the roots that this machine trusts.

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

/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// An answer is some hundreds of bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1_024;
/// Calls for one round before it is given up for the moment.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(250);
/// One chain of the network, by one of its servers.
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

/// A round's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrandRound {
    pub randomness: [u8; 32],
    pub signature: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum DrandError {
    #[error("its address is not one")]
    InvalidUrl,
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("it answers {0}")]
    Status(http::StatusCode),
    #[error("its answer is not a round's")]
    Malformed,
    #[error("its answer is about another round")]
    WrongRound,
    #[error("its randomness is not the hash of its signature")]
    RandomnessMismatch,
    #[error("its signature is not the chain's")]
    InvalidSignature,
}

#[derive(Deserialize)]
struct Answer {
    round: u64,
    randomness: String,
    signature: String,
}

impl DrandClient {
    /// `url` without a slash at the end; `chain` is the chain's hash. `roots` say whose word for a server is believed; over
    /// `http` none are needed.
    #[must_use]
    pub fn new(url: &str, chain: &str, key: ChainKey, roots: &TrustStore, entropy: Arc<dyn Entropy>) -> Self {
        let http = HttpClient::with_trust_store(DEADLINE, ANSWER_BYTES_MAX, roots);
        Self {
            url: url.to_owned(),
            chain: chain.to_owned(),
            key,
            http,
            entropy,
        }
    }

    /// The value of a round that is over. Tries a few times, with pauses that grow and differ from node to node.
    ///
    /// # Errors
    /// [`DrandError`], that of the last try.
    pub async fn fetch_round(&self, round: u64) -> Result<DrandRound, DrandError> {
        let mut tried = 0;
        loop {
            match self.fetch_once(round).await {
                Err(_) if tried + 1 < TRIES => {
                    tokio::time::sleep(PAUSE * 2_u32.pow(tried) + PAUSE.mul_f64(self.entropy.unit())).await;
                    tried += 1;
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
        parse_round(&answer.json().map_err(|_| DrandError::Malformed)?, round, &self.key)
    }
}

fn parse_round(answer: &Answer, round: u64, key: &ChainKey) -> Result<DrandRound, DrandError> {
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
    fn a_round_is_believed_only_as_far_as_its_signature_goes() {
        let (ours, other) = (SandboxSigner::of("ours"), SandboxSigner::of("another chain"));
        let signature = ours.sign(7);
        let answer = |round, randomness: &str, signature: &str| {
            parse_round(
                &Answer {
                    round,
                    randomness: randomness.to_owned(),
                    signature: signature.to_owned(),
                },
                7,
                &ours.public_key(),
            )
        };
        let right = hex(&sha256(&signature));
        let believed = DrandRound {
            randomness: sha256(&signature),
            signature: signature.to_vec(),
        };
        assert_eq!(answer(7, &right, &hex(&signature)).unwrap(), believed);
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
