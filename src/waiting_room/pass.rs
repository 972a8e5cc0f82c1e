//! The admission pass: a short-lived JWT (EdDSA) that the box office verifies without asking anybody.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    WaitingRoom,
    token::{self, QueueToken},
};
use crate::{
    kernel::{Clock, Entropy, SaleId, Subject, Timestamp, VisitId},
    platform::{
        keys::Keys,
        signing::{SigningKeys, TokenError, base64url},
    },
};

const TYP: &str = "pass+jwt";
const AUDIENCE: &str = "stagedoor:box-office";
/// How far two clocks of the house may stand apart before a pass is refused, in seconds.
pub(super) const LEEWAY_S: i64 = 5;

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

/// The room knows besides whether a pass's visit goes on.
impl Papers for WaitingRoom {
    fn read_token(&self, token: &str) -> Result<QueueToken, TokenError> {
        Self::read_token(self, token)
    }

    fn read_pass(&self, pass: &str) -> Result<Pass, TokenError> {
        Self::read_pass(self, pass)
    }

    fn pass_belongs_to(&self, pass: &Pass, who: &Subject) -> bool {
        Self::pass_belongs_to(self, pass, who)
    }
}

/// Reads by keys and clock alone, where the waiting room is in another process.
#[derive(Clone)]
pub struct PassReader {
    pub sale: SaleId,
    /// Issuer of passes: the public base URL.
    pub issuer: String,
    pub keys: Keys,
    pub clock: Arc<dyn Clock>,
}

impl Papers for PassReader {
    fn read_token(&self, token: &str) -> Result<QueueToken, TokenError> {
        QueueToken::open(token, &self.keys.queue, token::sale_hash(&self.sale))
    }

    fn read_pass(&self, pass: &str) -> Result<Pass, TokenError> {
        open(pass, &self.keys.pass, &self.sale, &self.issuer, self.clock.now())
    }

    fn pass_belongs_to(&self, pass: &Pass, who: &Subject) -> bool {
        pass.subject_hash == token::subject_hash(&self.keys.queue, &self.sale, who)
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
pub(super) fn seal(pass: &Pass, keys: &SigningKeys, sale: &SaleId, issuer: &str, entropy: &dyn Entropy) -> String {
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

/// Reads a pass: signature, issuer, audience, sale and times. Whether the visit goes on is the room's to know.
pub(super) fn open(text: &str, keys: &SigningKeys, sale: &SaleId, issuer: &str, now: Timestamp) -> Result<Pass, TokenError> {
    let claims: Claims = keys.verify(TYP, text)?;
    if claims.iss != issuer || claims.aud != AUDIENCE || claims.sale != *sale {
        return Err(TokenError::Purpose);
    }
    if claims.nbf.saturating_sub(LEEWAY_S) > now.as_secs() {
        return Err(TokenError::NotYet);
    }
    if claims.exp.saturating_add(LEEWAY_S) <= now.as_secs() {
        return Err(TokenError::Expired);
    }
    Ok(Pass {
        visit: claims.sid,
        subject_hash: u64::from_str_radix(&claims.sub, 16).map_err(|_| TokenError::Malformed)?,
        number: claims.num,
        generation: claims.r#gen,
        issued_at: Timestamp::from_secs(claims.iat),
        expires_at: Timestamp::from_secs(claims.exp),
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::kernel::SeededEntropy;

    #[test]
    fn a_pass_is_read_back_within_its_time_by_its_own_sale_and_house() {
        let keys = SigningKeys::new("pass", &BTreeMap::from([(1, [1; 32])]));
        let entropy = SeededEntropy::new(1);
        let sale: SaleId = "a".parse().unwrap();
        let now = Timestamp::from_secs(1_000);
        let pass = Pass {
            visit: VisitId::random(&entropy),
            subject_hash: u64::MAX - 3,
            number: 7,
            generation: 2,
            issued_at: now,
            expires_at: now.plus(Duration::from_mins(2)),
        };
        let text = seal(&pass, &keys, &sale, "https://x", &entropy);
        let read = |sale: &str, issuer: &str, after_s: i64| {
            open(&text, &keys, &sale.parse().unwrap(), issuer, Timestamp::from_secs(1_000 + after_s))
        };
        assert_eq!(read("a", "https://x", 0), Ok(pass.clone()));
        assert_eq!(read("a", "https://x", 124), Ok(pass));
        assert_eq!(read("a", "https://x", 125), Err(TokenError::Expired));
        assert_eq!(read("a", "https://x", -6), Err(TokenError::NotYet));
        assert_eq!(read("b", "https://x", 0), Err(TokenError::Purpose));
        assert_eq!(read("a", "https://y", 0), Err(TokenError::Purpose));
    }
}
