//! Argon2 (RFC 9106) as a PHC string, which PHP, Django and Spring write.

use argon2::{Algorithm, Argon2, Params, Version};

use crate::shop::passwords::password_format::equal;

/// Each thread that verifies passwords may need this much memory.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
/// Memory times passes: some seconds of a core.
const WORK_KIB_MAX: u64 = 2 * 1024 * 1024;

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Argon2Hash {
    algorithm: Algorithm,
    version: Version,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Argon2Hash {
    /// `$argon2id$v=19$m=65536,t=3,p=4$SALT$HASH`, also `argon2i` and `argon2d`. Without `v` it is version
    /// 1.0.
    pub(crate) fn from_phc(text: &str) -> Option<Self> {
        let phc = phc::PasswordHash::new(text).ok()?;
        // Keyed hashes cannot be verified without the key.
        (phc.params.get("keyid").is_none() && phc.params.get("data").is_none()).then_some(())?;
        let hash = Self {
            algorithm: Algorithm::new(phc.algorithm.as_str()).ok()?,
            version: phc.version.unwrap_or(0x10).try_into().ok()?,
            memory_kib: phc.params.get_decimal("m")?,
            passes: phc.params.get_decimal("t")?,
            lanes: phc.params.get_decimal("p")?,
            salt: phc.salt?.to_vec(),
            hash: phc.hash?.as_bytes().to_vec(),
        };
        hash.params().map(|_| hash)
    }

    fn params(&self) -> Option<Params> {
        Params::new(self.memory_kib, self.passes, self.lanes, Some(self.hash.len())).ok()
    }

    pub(crate) fn is_too_costly(&self) -> bool {
        self.memory_kib > MEMORY_KIB_MAX || u64::from(self.memory_kib) * u64::from(self.passes) > WORK_KIB_MAX
    }

    pub(crate) fn matches(&self, password: &str) -> bool {
        let Some(params) = self.params() else {
            return false;
        };
        let mut found = vec![0; self.hash.len()];
        Argon2::new(self.algorithm, self.version, params)
            .hash_password_into(password.as_bytes(), &self.salt, &mut found)
            .is_ok_and(|()| equal(&found, &self.hash))
    }
}
