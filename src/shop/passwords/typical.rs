//! What shop systems store by default: one hash of each format, to measure what verifying it costs.

use std::time::Duration;

use crate::{
    kernel::Clock,
    shop::passwords::{capacity::time_of, stored_hash::StoredHash},
};

/// The system, with the cost that it chooses by default, and a hash of that cost. The passwords are unknown.
const TYPICAL: [(&str, &str); 18] = [
    (
        "Django 6: 1,200,000 iterations",
        "pbkdf2_sha256$1200000$saltsalt$PxNV2uPcoTbirpaeNW9ELSJa+TkiqWQPtQags7FMwb0=",
    ),
    (
        "Django 6: 1,200,000 iterations",
        "pbkdf2_sha1$1200000$saltsalt$XAlh5TDUEZWw7uJO6MVwSVeLpko=",
    ),
    (
        "Django: cost 12",
        "bcrypt$$2b$12$60iFvzX9Ore3rYqs0bV86ewkPBarXdaBgKBcFL8fin7g1fPnSPM8K",
    ),
    (
        "Django: cost 12",
        "bcrypt_sha256$$2b$12$KkwAaxnKmLSPO4ITY1xWaOGsc382bGtRSkkdRmw4EDmN7.TrLYcJq",
    ),
    (
        "Django: 100 MiB, 2 passes",
        "argon2$argon2id$v=19$m=102400,t=2,p=8$c2FsdHNhbHQ$ZVGS8Blw+41ilRUL9jAlOxMxmKQ6neqVvITXH90Xw0M",
    ),
    (
        "Django: N 16384, p 5",
        "scrypt$16384$saltsalt$8$5$DJ8YLT9+RZ50Yc2eHCIyR6xYE9Yl2k9s7BZtgSMm5IAHFQ15efKw9ZPM2on5xe9\
         OnNj+Rl9UjWGsSDrdfokJHg==",
    ),
    (
        "PHP to 8.3, Spring Security: cost 10",
        "$2y$10$H2xrVd/dWtoUQ2VSMrNLEuzKCRtZO9KRFrXoCDBAKN81YdTZWtrdS",
    ),
    (
        "PHP from 8.4, Laravel: cost 12",
        "$2y$12$H2xrVd/dWtoUQ2VSMrNLEuzKCRtZO9KRFrXoCDBAKN81YdTZWtrdS",
    ),
    (
        "PHP: 64 MiB, 4 passes",
        "$argon2id$v=19$m=65536,t=4,p=1$WVVPbTlwZHduYWo3SzF6cg$3JMTzBrIyjepd0prcjTMAGJ++Va7zpGiBtIF/Mv9oLE",
    ),
    (
        "Spring Security 5.8: 16 MiB, 2 passes",
        "{argon2@SpringSecurity_v5_8}$argon2id$v=19$m=16384,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$CGw4BvN\
         nodgimhPURzW94R+cRyi/iNl9+r6GhYNWaAo",
    ),
    (
        "passlib: N 65536",
        "$scrypt$ln=16,r=8,p=1$cGhjLXN0cmluZy1zYWx0IQ$33rGQkCi0F+39iWUJOYCwrhWYeAFnlHcBpMvkk2YtHU",
    ),
    (
        "OWASP's advice: SHA-512, 210,000 iterations",
        "$pbkdf2-sha512$i=210000,l=64$cGhjLXN0cmluZy1zYWx0IQ$rZErrqycY4fxaP2jKjCAVS2tUkL4+1olBg1ay\
         M0QSBh7TNGJIQX7TEoUvob0YsK7s6lX1n3vmvjzNESl4toF6A",
    ),
    (
        "WordPress 6.8 on PHP to 8.3: cost 10",
        "$wp$2y$10$f29QynvnF9r/HWqdC4OB6eL3uKR1UDwLcqGD420eKjdCBvVHG8v0O",
    ),
    (
        "WordPress before: 8,192 rounds",
        "$P$B0d556Yp1wTztnjNF8t8HAvbm6jJUl/",
    ),
    (
        "Drupal 8 to 10: 65,536 rounds",
        "$S$EeIZ1KTE.VzRvudZ5.xgOakipuMFrVyPmRdWTjAdYieWj27NMglI",
    ),
    (
        "Spring Security 5.8: SHA-256, 310,000 iterations",
        "{pbkdf2@SpringSecurity_v5_8}73616c7473616c7473616c7473616c74f4bc7bb0208350c07185d555b81b4\
         e1fa33efa20acd9cdaede7c15e27a0fb3e0",
    ),
    (
        "Spring Security 5.8: N 65536",
        "{scrypt@SpringSecurity_v5_8}$100801$c3ByaW5nLXNjcnlwdC1vaw==$7xZB5Xg1lFdoEH9v5zd7C0ON1H6N\
         2H6A0D0Hw/6Wlk4=",
    ),
    (
        "ASP.NET Core 7 and later: SHA-512, 100,000 iterations",
        "AQAAAAIAAYagAAAAEAABAgMEBQYHCAkKCwwNDg8AAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHw==",
    ),
];

/// What verifying a stored password costs on one core of this machine.
#[derive(Clone, Copy, Debug)]
pub struct PasswordFormatCost {
    /// The format's name in logs and metrics.
    pub format: &'static str,
    /// The system that stores it, and the cost that it chooses by default.
    pub system: &'static str,
    /// The time of one verification.
    pub check_time: Duration,
}

/// Measures every format that is verified without being named in the configuration, one after another, each
/// when it is asked for.
///
/// # Panics
/// Never: the hashes are well formed, as a test shows.
pub fn password_format_costs(clock: &dyn Clock) -> impl Iterator<Item = PasswordFormatCost> {
    TYPICAL.iter().map(|(system, stored)| {
        let hash = StoredHash::parse(stored, &[]).expect("the hash is well formed");
        // The first run fetches code and memory.
        let runs = [time_of(&hash, clock), time_of(&hash, clock)];
        PasswordFormatCost {
            format: hash.format().name(),
            system,
            check_time: runs[0].min(runs[1]),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::shop::passwords::password_format::PasswordFormat;

    #[test]
    fn every_safe_format_has_a_typical_hash_that_is_verified() {
        let seen: BTreeSet<&str> = TYPICAL
            .iter()
            .map(|(system, stored)| match StoredHash::parse(stored, &[]) {
                Ok(hash) => hash.format().name(),
                Err(error) => panic!("{system}: {error:?}"),
            })
            .collect();
        for (format, name) in PasswordFormat::ALL {
            assert_eq!(seen.contains(name), !format.is_unsafe(), "{name}");
        }
    }
}
