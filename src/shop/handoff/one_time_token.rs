//! What the service gives out for one use and gets back: sealed, so that others can neither read nor forge
//! it, and any node can open it without a store. Its id is recorded when it is used.
//!
//! ```text
//! bytes 0-15    random id
//! bytes 16-23   end, milliseconds since 1970, big-endian
//! then          the content
//! ```
//! encrypted, in base64url.

use std::time::Duration;

use uuid::Uuid;

use crate::{
    kernel::{Entropy, Subject, Timestamp},
    platform::{
        encryption::EncryptionKeys,
        signing::{base64url, from_base64url},
    },
};

const HEAD_LEN: usize = 24;
const TEXT_LEN_MAX: usize = 2_048;
/// The shop redirects at once.
const CODE_TTL: Duration = Duration::from_mins(1);
/// Long enough to type a password and wait for a text message.
const STATE_TTL: Duration = Duration::from_mins(10);

/// What a one-time token is for; one of another purpose cannot be opened.
#[derive(Clone, Copy)]
enum Purpose {
    SignInState,
    HandoffCode,
}

/// A hand-off that the shop deposited, to be redeemed by its customer's browser.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct HandoffCode {
    pub id: Uuid,
    pub expires_at: Timestamp,
    pub customer: Subject,
    pub name: String,
}

/// A sign-in at the shop that a browser has begun here. Only that browser has it, in a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignInState {
    pub(crate) id: Uuid,
    /// From then on it is refused.
    pub expires_at: Timestamp,
    /// Where the visitor goes afterwards: a path of this site.
    pub return_path: String,
    /// The secret of a sign-in at an OpenID provider; empty for a hand-off.
    pub(crate) code_verifier: String,
}

impl HandoffCode {
    pub(crate) fn new(customer: Subject, name: String, now: Timestamp, entropy: &dyn Entropy) -> Self {
        Self {
            id: random_id(entropy),
            expires_at: now.plus(CODE_TTL),
            customer,
            name,
        }
    }

    pub(crate) fn seal(&self, keys: &EncryptionKeys) -> String {
        let content = serde_json::to_string(&(self.customer.as_str(), &self.name)).expect("texts are JSON");
        seal(Purpose::HandoffCode, self.id, self.expires_at, &content, keys)
    }

    pub(crate) fn open(text: &str, keys: &EncryptionKeys, now: Timestamp) -> Option<Self> {
        let (id, expires_at, content) = open(Purpose::HandoffCode, text, keys, now)?;
        let (customer, name): (String, String) = serde_json::from_str(&content).ok()?;
        Some(Self {
            id,
            expires_at,
            customer: Subject::from_stored(&customer).ok()?,
            name,
        })
    }
}

impl SignInState {
    /// How long a sign-in at the shop may take.
    pub const TTL: Duration = STATE_TTL;

    pub(crate) fn new(return_path: &str, now: Timestamp, entropy: &dyn Entropy) -> Self {
        Self {
            id: random_id(entropy),
            expires_at: now.plus(STATE_TTL),
            return_path: return_path.to_owned(),
            code_verifier: String::new(),
        }
    }

    pub(crate) fn seal(&self, keys: &EncryptionKeys) -> String {
        let content = (&self.return_path, &self.code_verifier);
        let content = serde_json::to_string(&content).expect("texts are JSON");
        seal(Purpose::SignInState, self.id, self.expires_at, &content, keys)
    }

    pub(crate) fn open(text: &str, keys: &EncryptionKeys, now: Timestamp) -> Option<Self> {
        let (id, expires_at, content) = open(Purpose::SignInState, text, keys, now)?;
        let (return_path, code_verifier) = serde_json::from_str(&content).ok()?;
        Some(Self {
            id,
            expires_at,
            return_path,
            code_verifier,
        })
    }
}

impl Purpose {
    fn context(self) -> &'static [u8] {
        match self {
            Self::SignInState => b"sign-in state",
            Self::HandoffCode => b"hand-off code",
        }
    }
}

fn random_id(entropy: &dyn Entropy) -> Uuid {
    let mut random = [0; 16];
    entropy.fill(&mut random);
    uuid::Builder::from_random_bytes(random).into_uuid()
}

fn seal(purpose: Purpose, id: Uuid, expires_at: Timestamp, content: &str, keys: &EncryptionKeys) -> String {
    let mut bytes = Vec::with_capacity(HEAD_LEN + content.len());
    bytes.extend(id.as_bytes());
    bytes.extend(expires_at.as_millis().to_be_bytes());
    bytes.extend(content.as_bytes());
    base64url(&keys.encrypt(purpose.context(), &bytes))
}

fn open(
    purpose: Purpose,
    text: &str,
    keys: &EncryptionKeys,
    now: Timestamp,
) -> Option<(Uuid, Timestamp, String)> {
    if text.len() > TEXT_LEN_MAX {
        return None;
    }
    let bytes = keys.decrypt(purpose.context(), &from_base64url(text)?)?;
    let (head, content) = bytes.split_at_checked(HEAD_LEN)?;
    let (id, end) = head.split_at(16);
    let expires_at = Timestamp::from_millis(i64::from_be_bytes(end.try_into().ok()?));
    if now >= expires_at {
        return None;
    }
    Some((
        Uuid::from_slice(id).ok()?,
        expires_at,
        String::from_utf8(content.to_vec()).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernel::SeededEntropy, platform::keys::Keys};

    #[test]
    fn a_code_opens_under_its_keys_until_it_expires() {
        let (entropy, now) = (SeededEntropy::new(1), Timestamp::from_secs(1_800_000_000));
        let keys = Keys::ephemeral(&entropy).handoff;
        let customer = Subject::customer(&"k".repeat(100)).unwrap();
        let code = HandoffCode::new(customer, "👨‍👩‍👧 임\0히어로".repeat(10), now, &entropy);
        let text = code.seal(&keys);
        let just_before = now.plus(CODE_TTL).minus(Duration::from_millis(1));
        assert!(HandoffCode::open(&text, &keys, just_before) == Some(code));
        assert!(HandoffCode::open(&text, &keys, now.plus(CODE_TTL)).is_none());
        let others = Keys::ephemeral(&SeededEntropy::new(2)).handoff;
        assert!(HandoffCode::open(&text, &others, now).is_none());
        assert!(
            !from_base64url(&text)
                .unwrap()
                .windows(8)
                .any(|part| part == b"customer")
        );
        for forged in ["", "a", "====", &text[1..], &"a".repeat(100_000)] {
            assert!(HandoffCode::open(forged, &keys, now).is_none(), "{forged:.20}");
        }
    }

    #[test]
    fn a_state_is_no_code_and_a_code_is_no_state() {
        let (entropy, now) = (SeededEntropy::new(1), Timestamp::from_secs(1_800_000_000));
        let keys = Keys::ephemeral(&entropy).handoff;
        let state = SignInState::new("/sales/x?lang=ko", now, &entropy);
        let text = state.seal(&keys);
        assert_eq!(SignInState::open(&text, &keys, now), Some(state));
        assert_eq!(SignInState::open(&text, &keys, now.plus(STATE_TTL)), None);
        assert!(HandoffCode::open(&text, &keys, now).is_none());
        let code = HandoffCode::new(Subject::customer("1").unwrap(), String::new(), now, &entropy);
        assert_eq!(SignInState::open(&code.seal(&keys), &keys, now), None);
    }
}
