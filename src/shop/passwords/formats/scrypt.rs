//! scrypt (RFC 7914) as a PHC string, and as Django and Spring write it.

use base64::{Engine, engine::general_purpose::STANDARD};
use scrypt::Params;

use crate::shop::passwords::password_format::equal;

/// Each thread that verifies passwords may need this much memory.
const MEMORY_BYTES_MAX: u64 = 256 << 20;
/// Memory times lanes: some seconds of a core.
const WORK_BYTES_MAX: u64 = 1 << 30;

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ScryptHash {
    log2_n: u8,
    block_size: u32,
    lanes: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl ScryptHash {
    /// Django: `scrypt$N$SALT$R$P$BASE64`.
    pub(crate) fn from_django(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.strip_prefix("scrypt$")?.split('$').collect();
        let [n, salt, block_size, lanes, hash] = parts[..] else {
            return None;
        };
        let n: u32 = n.parse().ok()?;
        n.is_power_of_two().then_some(())?;
        let hash = Self {
            log2_n: u8::try_from(n.ilog2()).ok()?,
            block_size: block_size.parse().ok()?,
            lanes: lanes.parse().ok()?,
            salt: salt.as_bytes().to_vec(),
            hash: STANDARD.decode(hash).ok()?,
        };
        hash.checked()
    }

    /// `$scrypt$ln=LOG2_N,r=R,p=P$SALT$HASH`.
    pub(crate) fn from_phc(text: &str) -> Option<Self> {
        let phc = phc::PasswordHash::new(text).ok()?;
        (phc.algorithm.as_str() == "scrypt").then_some(())?;
        let hash = Self {
            log2_n: u8::try_from(phc.params.get_decimal("ln")?).ok()?,
            block_size: phc.params.get_decimal("r")?,
            lanes: phc.params.get_decimal("p")?,
            salt: phc.salt?.to_vec(),
            hash: phc.hash?.as_bytes().to_vec(),
        };
        hash.checked()
    }

    /// Spring: `$PARAMETERS$SALT$HASH`; the parameters are the hexadecimal number of log2 N (from bit 16), R
    /// (from bit 8) and P, salt and hash are base64.
    pub(crate) fn from_spring(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.strip_prefix('$')?.split('$').collect();
        let [parameters, salt, hash] = parts[..] else {
            return None;
        };
        let parameters = u32::from_str_radix(parameters, 16).ok()?;
        let hash = Self {
            log2_n: u8::try_from(parameters >> 16).ok()?,
            block_size: parameters >> 8 & 255,
            lanes: parameters & 255,
            salt: STANDARD.decode(salt).ok()?,
            hash: STANDARD.decode(hash).ok()?,
        };
        hash.checked()
    }

    fn params(&self) -> Option<Params> {
        Params::new(self.log2_n, self.block_size, self.lanes).ok()
    }

    fn checked(self) -> Option<Self> {
        let is_whole =
            (16..=64).contains(&self.hash.len()) && !self.salt.is_empty() && self.params().is_some();
        is_whole.then_some(self)
    }

    pub(crate) fn is_too_costly(&self) -> bool {
        let memory = 128_u64
            .saturating_mul(u64::from(self.block_size))
            .saturating_mul(1 << self.log2_n.min(40));
        memory > MEMORY_BYTES_MAX || memory.saturating_mul(u64::from(self.lanes)) > WORK_BYTES_MAX
    }

    pub(crate) fn matches(&self, password: &str) -> bool {
        let Some(params) = self.params() else {
            return false;
        };
        let mut found = vec![0; self.hash.len()];
        scrypt::scrypt(password.as_bytes(), &self.salt, &params, &mut found)
            .is_ok_and(|()| equal(&found, &self.hash))
    }
}
