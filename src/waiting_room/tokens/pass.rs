//! The admission pass: a short-lived JWT (EdDSA) that the box office verifies without asking anybody.

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
/// How far two clocks of the house may stand apart before a pass is refused, in seconds.
pub(crate) const LEEWAY_S: i64 = 5;

/// A visit behind the door, as proven by a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    pub visit: VisitId,
    /// Keyed hash of the subject who entered.
    pub subject_hash: u64,
    /// Her queue number.
    pub number: u64,
    /// Raised when all passes of the sale are called back; older passes are refused.
    pub generation: u32,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

/// Reads what the fans of one sale show. No I/O.
pub trait Papers: Send + Sync {
    fn read_token(&self, token: &str) -> Result<QueueToken, TokenError>;
    fn read_pass(&self, pass: &str) -> Result<Pass, TokenError>;
    fn pass_belongs_to(&self, pass: &Pass, who: &Subject) -> bool;
}

/// Reads by keys and clock alone; all that there is where the waiting room is in another process.
pub struct PassReader {
    sale: SaleId,
    issuer: String,
    keys: Keys,
    clock: Arc<dyn Clock>,
    genuine: Genuine,
}

impl PassReader {
    /// `issuer` of passes is the public base URL.
    #[must_use]
    pub fn new(sale: SaleId, issuer: String, keys: Keys, clock: Arc<dyn Clock>) -> Self {
        Self {
            sale,
            issuer,
            keys,
            clock,
            genuine: Genuine::default(),
        }
    }
}

/// Passes that were found genuine, by the SHA-256 of their texts. A visitor shows the same pass with each call, and to
/// check an Ed25519 signature costs more than everything else that a hold asks of a node. Whatever is not here is checked.
#[derive(Default)]
struct Genuine(Mutex<Remembered>);

/// What has been asked for of late, and what was before that: when the one is full it becomes the other.
#[derive(Default)]
struct Remembered {
    now: HashMap<[u8; 32], Pass>,
    before: HashMap<[u8; 32], Pass>,
}

/// Passes in each of the two: some 130 bytes each, and more than are inside.
const REMEMBERED_MAX: usize = 16_384;

impl Genuine {
    fn or_check(
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

impl Remembered {
    fn add(&mut self, name: [u8; 32], pass: Pass) {
        if self.now.len() >= REMEMBERED_MAX {
            self.before = mem::take(&mut self.now);
        }
        self.now.insert(name, pass);
    }
}

impl Papers for PassReader {
    fn read_token(&self, token: &str) -> Result<QueueToken, TokenError> {
        QueueToken::open(token, &self.keys.queue, queue_token::sale_hash(&self.sale))
    }

    fn read_pass(&self, pass: &str) -> Result<Pass, TokenError> {
        let pass = self
            .genuine
            .or_check(pass, || open(pass, &self.keys.pass, &self.sale, &self.issuer))?;
        is_in_time(&pass, self.clock.now()).map(|()| pass)
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
pub(crate) fn seal(
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

    fn reader(sale: &str, issuer: &str, keys: Keys, clock: &Arc<ManualClock>) -> PassReader {
        PassReader::new(
            sale.parse().unwrap(),
            issuer.to_owned(),
            keys,
            Arc::clone(clock) as Arc<dyn Clock>,
        )
    }

    #[test]
    fn a_pass_is_read_back_within_its_time_by_its_own_sale_and_house() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(994)));
        let text = seal(
            &pass(),
            &keys(1).pass,
            &"a".parse().unwrap(),
            "https://x",
            &SeededEntropy::new(2),
        );
        let ours = reader("a", "https://x", keys(1), &clock);
        let read_at = |s: i64| {
            clock.step_to(Timestamp::from_secs(s));
            ours.read_pass(&text)
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
            reader("b", "https://x", keys(1), &clock).read_pass(&text),
            Err(TokenError::Purpose)
        );
        assert_eq!(
            reader("a", "https://y", keys(1), &clock).read_pass(&text),
            Err(TokenError::Purpose)
        );
        assert_eq!(
            reader("a", "https://x", keys(3), &clock).read_pass(&text),
            Err(TokenError::Signature)
        );
    }

    #[test]
    fn a_forged_pass_is_refused_again_and_again() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_000)));
        let ours = reader("a", "https://x", keys(1), &clock);
        let sealed = |seed| {
            seal(
                &pass(),
                &keys(seed).pass,
                &"a".parse().unwrap(),
                "https://x",
                &SeededEntropy::new(2),
            )
        };
        let (genuine, other) = (sealed(1), sealed(3));
        assert!(ours.read_pass(&genuine).is_ok());
        let (body, _) = genuine.rsplit_once('.').unwrap();
        let (_, signature) = other.rsplit_once('.').unwrap();
        for _ in 0..2 {
            assert_eq!(
                ours.read_pass(&format!("{body}.{signature}")),
                Err(TokenError::Signature)
            );
        }
    }

    #[test]
    fn a_signature_is_checked_once_and_what_is_remembered_is_bounded() {
        let (genuine, checks) = (Genuine::default(), std::cell::Cell::new(0));
        let ask = |text: &str| {
            genuine.or_check(text, || {
                checks.set(checks.get() + 1);
                Ok(pass())
            })
        };
        for _ in 0..3 {
            assert_eq!(ask("hers"), Ok(pass()));
        }
        assert_eq!(checks.get(), 1);
        for other in 0..2 * REMEMBERED_MAX {
            ask(&other.to_string()).unwrap();
            ask("hers").unwrap();
        }
        assert_eq!(
            checks.get(),
            1 + 2 * REMEMBERED_MAX,
            "whoever keeps asking is not forgotten"
        );
        let remembered = genuine.0.lock();
        assert!(remembered.now.len() <= REMEMBERED_MAX && remembered.before.len() <= REMEMBERED_MAX);
    }
}
