//! Admission pass: a short-lived JWT (EdDSA) that the box office verifies without a request to the waiting
//! room.

use std::{collections::HashMap, mem, sync::Arc};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::waiting_room::tokens::queue_token::{self, QueueToken};
use crate::{
    kernel::{Clock, Entropy, SaleId, Subject, Timestamp, VisitId},
    platform::{
        keys::Keys,
        signing::{SigningKeys, TokenError, base64url, sha256},
    },
};

const TYP: &str = "pass+jwt";
const AUDIENCE: &str = "stagedoor:box-office";
/// How far two clocks of the service may differ before a pass is refused, in seconds.
pub(crate) const LEEWAY_S: i64 = 5;

/// A visit, as proven by a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The visit.
    pub visit: VisitId,
    /// Keyed hash of the admitted subject.
    pub subject_hash: u64,
    /// Queue number of the visitor.
    pub number: u64,
    /// Raised when all passes of the sale are revoked; older passes are refused.
    pub generation: u32,
    /// When the pass was issued.
    pub issued_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// Verifies the tokens of one sale. No I/O.
pub trait TokenVerifier: Send + Sync {
    /// Verifies a queue token.
    ///
    /// # Errors
    /// [`TokenError`] says what is wrong with it.
    fn verify_token(&self, token: &str) -> Result<QueueToken, TokenError>;
    /// Verifies a pass.
    ///
    /// # Errors
    /// [`TokenError`] says what is wrong with it.
    fn verify_pass(&self, pass: &str) -> Result<Pass, TokenError>;
    /// Whether the queue token was given to this subject.
    fn token_belongs_to(&self, token: &QueueToken, who: &Subject) -> bool;
    /// Whether the pass was given to this subject.
    fn pass_belongs_to(&self, pass: &Pass, who: &Subject) -> bool;
}

/// Verifies by keys and clock alone: all that a process without the waiting room can do.
pub struct PassVerifier {
    sale: SaleId,
    issuer: String,
    keys: Keys,
    clock: Arc<dyn Clock>,
    verified: VerifiedPasses,
}

impl PassVerifier {
    /// `issuer` of passes is the public base URL.
    #[must_use]
    pub fn new(sale: SaleId, issuer: String, keys: Keys, clock: Arc<dyn Clock>) -> Self {
        Self {
            sale,
            issuer,
            keys,
            clock,
            verified: VerifiedPasses::default(),
        }
    }
}

/// Passes that were found genuine, by the SHA-256 of their texts. A visitor shows the same pass with each
/// request, and verifying an Ed25519 signature costs more than the rest of a hold request. Passes that are
/// not here are verified.
#[derive(Default)]
struct VerifiedPasses(Mutex<Generations>);

/// Two generations of entries: when the current one is full it becomes the previous one.
#[derive(Default)]
struct Generations {
    now: HashMap<[u8; 32], Pass>,
    before: HashMap<[u8; 32], Pass>,
}

/// Passes per generation: some 130 bytes each, and more than are active.
const REMEMBERED_MAX: usize = 16_384;

impl VerifiedPasses {
    fn get_or_verify(
        &self,
        text: &str,
        check: impl FnOnce() -> Result<Pass, TokenError>,
    ) -> Result<Pass, TokenError> {
        let name = sha256(text.as_bytes());
        {
            let mut remembered = self.0.lock();
            if let Some(pass) = remembered.now.get(&name) {
                return Ok(pass.clone());
            }
            if let Some(pass) = remembered.before.remove(&name) {
                remembered.add(name, pass.clone());
                return Ok(pass);
            }
        }
        let pass = check()?;
        self.0.lock().add(name, pass.clone());
        Ok(pass)
    }
}

impl Generations {
    fn add(&mut self, name: [u8; 32], pass: Pass) {
        if self.now.len() >= REMEMBERED_MAX {
            self.before = mem::take(&mut self.now);
        }
        self.now.insert(name, pass);
    }
}

impl TokenVerifier for PassVerifier {
    fn verify_token(&self, token: &str) -> Result<QueueToken, TokenError> {
        QueueToken::open(token, &self.keys.queue, queue_token::sale_hash(&self.sale))
    }

    fn verify_pass(&self, pass: &str) -> Result<Pass, TokenError> {
        let pass = self
            .verified
            .get_or_verify(pass, || open(pass, &self.keys.pass, &self.sale, &self.issuer))?;
        is_in_time(&pass, self.clock.now()).map(|()| pass)
    }

    fn token_belongs_to(&self, token: &QueueToken, who: &Subject) -> bool {
        token.subject_hash == queue_token::subject_hash(&self.keys.queue, &self.sale, who)
    }

    fn pass_belongs_to(&self, pass: &Pass, who: &Subject) -> bool {
        pass.subject_hash == queue_token::subject_hash(&self.keys.queue, &self.sale, who)
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    sid: VisitId,
    sale: SaleId,
    num: u64,
    r#gen: u32,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: String,
}

/// Signs a pass for `pass.visit`; its times are cut to whole seconds, the unit of JWTs.
pub(crate) fn sign(
    pass: &Pass,
    keys: &SigningKeys,
    sale: &SaleId,
    issuer: &str,
    entropy: &dyn Entropy,
) -> String {
    let mut id = [0; 12];
    entropy.fill(&mut id);
    let claims = Claims {
        iss: issuer.to_owned(),
        aud: AUDIENCE.to_owned(),
        sub: format!("{:016x}", pass.subject_hash),
        sid: pass.visit,
        sale: sale.clone(),
        num: pass.number,
        r#gen: pass.generation,
        iat: pass.issued_at.as_secs(),
        nbf: pass.issued_at.as_secs(),
        exp: pass.expires_at.as_secs(),
        jti: base64url(&id),
    };
    keys.sign(TYP, &claims)
}

/// Reads a pass: signature, issuer, audience and sale.
fn open(text: &str, keys: &SigningKeys, sale: &SaleId, issuer: &str) -> Result<Pass, TokenError> {
    let claims: Claims = keys.verify(TYP, text)?;
    if claims.iss != issuer || claims.aud != AUDIENCE || claims.sale != *sale {
        return Err(TokenError::Purpose);
    }
    Ok(Pass {
        visit: claims.sid,
        subject_hash: u64::from_str_radix(&claims.sub, 16).map_err(|_| TokenError::Malformed)?,
        number: claims.num,
        generation: claims.r#gen,
        issued_at: Timestamp::from_secs(claims.nbf),
        expires_at: Timestamp::from_secs(claims.exp),
    })
}

/// Not before its time and not after it, as far as two clocks agree.
fn is_in_time(pass: &Pass, now: Timestamp) -> Result<(), TokenError> {
    if pass.issued_at.as_secs().saturating_sub(LEEWAY_S) > now.as_secs() {
        return Err(TokenError::NotYet);
    }
    if pass.expires_at.as_secs().saturating_add(LEEWAY_S) <= now.as_secs() {
        return Err(TokenError::Expired);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kernel::{ManualClock, SeededEntropy};

    fn pass() -> Pass {
        let now = Timestamp::from_secs(1_000);
        Pass {
            visit: VisitId::random(&SeededEntropy::new(1)),
            subject_hash: u64::MAX - 3,
            number: 7,
            generation: 2,
            issued_at: now,
            expires_at: now.plus(Duration::from_mins(2)),
        }
    }

    fn keys(seed: u64) -> Keys {
        Keys::ephemeral(&SeededEntropy::new(seed))
    }

    fn reader(sale: &str, issuer: &str, keys: Keys, clock: &Arc<ManualClock>) -> PassVerifier {
        PassVerifier::new(
            sale.parse().unwrap(),
            issuer.to_owned(),
            keys,
            Arc::clone(clock) as Arc<dyn Clock>,
        )
    }

    #[test]
    fn a_pass_is_valid_in_its_time_sale_and_service() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(994)));
        let text = sign(
            &pass(),
            &keys(1).pass,
            &"a".parse().unwrap(),
            "https://x",
            &SeededEntropy::new(2),
        );
        let ours = reader("a", "https://x", keys(1), &clock);
        let read_at = |s: i64| {
            clock.step_to(Timestamp::from_secs(s));
            ours.verify_pass(&text)
        };
        assert_eq!(read_at(994), Err(TokenError::NotYet));
        assert_eq!(read_at(1_000), Ok(pass()));
        assert_eq!(read_at(1_124), Ok(pass()));
        assert_eq!(
            read_at(1_125),
            Err(TokenError::Expired),
            "having been good before does not help"
        );
        clock.step_to(Timestamp::from_secs(1_000));
        assert_eq!(
            reader("b", "https://x", keys(1), &clock).verify_pass(&text),
            Err(TokenError::Purpose)
        );
        assert_eq!(
            reader("a", "https://y", keys(1), &clock).verify_pass(&text),
            Err(TokenError::Purpose)
        );
        assert_eq!(
            reader("a", "https://x", keys(3), &clock).verify_pass(&text),
            Err(TokenError::Signature)
        );
    }

    #[test]
    fn a_forged_pass_is_refused_every_time() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_000)));
        let ours = reader("a", "https://x", keys(1), &clock);
        let sealed = |seed| {
            sign(
                &pass(),
                &keys(seed).pass,
                &"a".parse().unwrap(),
                "https://x",
                &SeededEntropy::new(2),
            )
        };
        let (genuine, other) = (sealed(1), sealed(3));
        assert!(ours.verify_pass(&genuine).is_ok());
        let (body, _) = genuine.rsplit_once('.').unwrap();
        let (_, signature) = other.rsplit_once('.').unwrap();
        for _ in 0..2 {
            assert_eq!(
                ours.verify_pass(&format!("{body}.{signature}")),
                Err(TokenError::Signature)
            );
        }
    }

    #[test]
    fn a_signature_is_verified_once_and_the_cache_is_bounded() {
        let (genuine, checks) = (VerifiedPasses::default(), std::cell::Cell::new(0));
        let ask = |text: &str| {
            genuine.get_or_verify(text, || {
                checks.set(checks.get() + 1);
                Ok(pass())
            })
        };
        for _ in 0..3 {
            assert_eq!(ask("mine"), Ok(pass()));
        }
        assert_eq!(checks.get(), 1);
        for other in 0..2 * REMEMBERED_MAX {
            ask(&other.to_string()).unwrap();
            ask("mine").unwrap();
        }
        assert_eq!(
            checks.get(),
            1 + 2 * REMEMBERED_MAX,
            "passes in use stay in the cache"
        );
        let remembered = genuine.0.lock();
        assert!(remembered.now.len() <= REMEMBERED_MAX && remembered.before.len() <= REMEMBERED_MAX);
    }
}
