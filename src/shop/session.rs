//! Session tokens: authenticated by a MAC, verified without I/O.
//!
//! ```text
//! byte 0        purpose, 0x53
//! byte 1        key id
//! bytes 2-17    session id
//! bytes 18-25   end, milliseconds since 1970, big-endian
//! then          the subject, 1 to 128 bytes of UTF-8
//! last 16       MAC over all before
//! ```
//! in base64url.

use std::time::Duration;

use uuid::Uuid;

use crate::{
    kernel::{Entropy, Subject, Timestamp},
    platform::signing::{MacKeys, TAG_LEN, TokenError, base64url, from_base64url},
};

const PURPOSE: u8 = 0x53;
const HEAD_LEN: usize = 26;
const TEXT_LEN_MAX: usize = (HEAD_LEN + Subject::LENGTH_MAX + TAG_LEN).div_ceil(3) * 4;

/// A customer's sign-in session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Random id, by which the session is revoked.
    pub id: Uuid,
    /// The customer.
    pub subject: Subject,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl Session {
    pub(super) fn new(subject: Subject, now: Timestamp, ttl: Duration, entropy: &dyn Entropy) -> Self {
        let mut random = [0; 16];
        entropy.fill(&mut random);
        Self {
            id: uuid::Builder::from_random_bytes(random).into_uuid(),
            subject,
            expires_at: now.plus(ttl),
        }
    }

    pub(super) fn to_token(&self, keys: &MacKeys) -> String {
        let mut bytes = Vec::with_capacity(HEAD_LEN + self.subject.as_str().len() + TAG_LEN);
        bytes.extend([PURPOSE, keys.current()]);
        bytes.extend(self.id.as_bytes());
        bytes.extend(self.expires_at.as_millis().to_be_bytes());
        bytes.extend(self.subject.as_str().as_bytes());
        let tag = keys.tag(keys.current(), &bytes).expect("the current key exists");
        bytes.extend(tag);
        base64url(&bytes)
    }

    pub(super) fn from_token(token: &str, keys: &MacKeys, now: Timestamp) -> Result<Self, TokenError> {
        if token.len() > TEXT_LEN_MAX {
            return Err(TokenError::Malformed);
        }
        let bytes = from_base64url(token).ok_or(TokenError::Malformed)?;
        let (message, tag) = bytes
            .len()
            .checked_sub(TAG_LEN)
            .map(|at| bytes.split_at(at))
            .ok_or(TokenError::Malformed)?;
        let (head, subject) = message.split_at_checked(HEAD_LEN).ok_or(TokenError::Malformed)?;
        if head[0] != PURPOSE {
            return Err(TokenError::Purpose);
        }
        if !keys.verify(head[1], message, tag) {
            return Err(TokenError::Signature);
        }
        let id = Uuid::from_slice(&head[2..18]).map_err(|_| TokenError::Malformed)?;
        let expires_at = Timestamp::from_millis(i64::from_be_bytes(head[18..].try_into().expect("8 bytes")));
        let subject = std::str::from_utf8(subject)
            .ok()
            .and_then(|s| Subject::from_stored(s).ok())
            .ok_or(TokenError::Malformed)?;
        if now >= expires_at {
            return Err(TokenError::Expired);
        }
        Ok(Self {
            id,
            subject,
            expires_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::kernel::SeededEntropy;

    fn keys(ids: &[u8]) -> MacKeys {
        MacKeys::new(&ids.iter().map(|&id| (id, [id; 32])).collect::<BTreeMap<_, _>>())
    }

    fn session() -> Session {
        Session::new(
            Subject::customer("42").unwrap(),
            Timestamp::from_millis(0),
            Duration::from_mins(1),
            &SeededEntropy::new(1),
        )
    }

    #[test]
    fn a_token_is_valid_until_it_expires() {
        let token = session().to_token(&keys(&[1]));
        let read = |ids: &[u8], ms| Session::from_token(&token, &keys(ids), Timestamp::from_millis(ms));
        assert_eq!(read(&[1], 59_999), Ok(session()));
        assert_eq!(
            read(&[1, 2], 0),
            Ok(session()),
            "a new key does not end old sessions"
        );
        assert_eq!(read(&[1], 60_000), Err(TokenError::Expired));
        assert_eq!(read(&[2], 0), Err(TokenError::Signature));
    }

    #[test]
    fn a_token_with_a_flipped_bit_is_refused() {
        let token = from_base64url(&session().to_token(&keys(&[1]))).unwrap();
        for bit in 0..token.len() * 8 {
            let mut forged = token.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(
                Session::from_token(&base64url(&forged), &keys(&[1]), Timestamp::from_millis(0)).is_err(),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn malformed_tokens_are_refused() {
        let long = "A".repeat(1_000_000);
        let longest = Session {
            subject: Subject::from_stored(&"s".repeat(Subject::LENGTH_MAX)).unwrap(),
            ..session()
        };
        assert!(
            Session::from_token(
                &longest.to_token(&keys(&[1])),
                &keys(&[1]),
                Timestamp::from_millis(0)
            )
            .is_ok()
        );
        for text in [
            "",
            "A",
            "AAAA",
            "not base64!",
            "UwE",
            long.as_str(),
            &base64url(&[PURPOSE; 30]),
        ] {
            assert_eq!(
                Session::from_token(text, &keys(&[1]), Timestamp::from_millis(0)),
                Err(TokenError::Malformed),
                "{text:.20}"
            );
        }
    }
}
