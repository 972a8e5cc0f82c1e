use std::{collections::BTreeSet, num::NonZeroU32};

use serde::Deserialize;

use super::*;
use crate::shop::passwords::formats::django_hash;

const FEW: NonZeroU32 = NonZeroU32::new(10).unwrap();
const NONE_UNSAFE: &[PasswordFormat] = &[];

#[derive(Deserialize)]
struct Vector {
    format: String,
    source: String,
    password: String,
    stored: String,
}

/// Made by `tests/vectors/password_hashes.py`.
fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("vectors.json")).unwrap()
}

fn every_unsafe_one() -> Vec<PasswordFormat> {
    PasswordFormat::unsafe_ones().map(|(format, _)| format).collect()
}

#[test]
fn hashes_of_shop_systems_verify() {
    let allowed = every_unsafe_one();
    let mut seen = BTreeSet::new();
    for Vector {
        format,
        source,
        password,
        stored,
    } in vectors()
    {
        let hash =
            StoredHash::parse(&stored, &allowed).unwrap_or_else(|e| panic!("{source}: {stored}: {e:?}"));
        assert_eq!(hash.format().name(), format, "{source}: {stored}");
        assert!(hash.matches(&password), "{source}: {stored}");
        assert!(!hash.matches("another password"), "{source}: {stored}");
        assert!(!hash.matches(""), "{source}: {stored}");
        seen.insert(format);
    }
    for (_, name) in PasswordFormat::ALL {
        assert!(seen.contains(*name), "no vector of {name}");
    }
}

#[test]
fn a_changed_digit_of_a_hash_is_another_password_or_unusable() {
    let allowed = every_unsafe_one();
    for Vector { password, stored, .. } in vectors() {
        let last = stored.len() - stored.chars().next_back().unwrap().len_utf8();
        for (at, _) in stored.char_indices().filter(|(at, _)| at % 7 == 0 || *at == last) {
            let mut changed = stored.clone();
            let old = stored[at..].chars().next().unwrap();
            let new = if old == 'b' { "c" } else { "b" };
            changed.replace_range(at..at + old.len_utf8(), new);
            // Costs have grown beyond what a test should take.
            let Ok(hash) = StoredHash::parse(&changed, &allowed) else {
                continue;
            };
            let is_in_hash = at > stored.rfind(['$', '}']).unwrap_or(0) + 24;
            if is_in_hash && hash.format() != PasswordFormat::AspnetIdentityV3 {
                assert!(!hash.matches(&password), "{stored} with {new} at {at}");
            }
        }
    }
}

#[test]
fn published_hashes_verify() {
    // RFC 6070 gives the SHA-1 values; the SHA-256 one is the widely published counterpart for the same
    // input. OpenBSD's and John the Ripper's lists have the bcrypt one.
    for text in [
        "pbkdf2_sha1$4096$salt$SwB5AbdlSJq+rUnZJvch0GWkKcE=",
        "pbkdf2_sha256$4096$salt$xeR41ZKIyEGqUw22hFxMjZYok6ABzk4RpJY4c6qYE0o=",
    ] {
        let hash = StoredHash::parse(text, NONE_UNSAFE).unwrap();
        assert!(hash.matches("password"));
        assert!(!hash.matches("Password"));
    }
    let bcrypt = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    assert!(StoredHash::parse(bcrypt, NONE_UNSAFE).unwrap().matches("U*U"));
    let made = StoredHash::parse(&django_hash("비밀번호", "salt", FEW), NONE_UNSAFE).unwrap();
    assert!(made.matches("비밀번호") && !made.matches("비밀"));
}

#[test]
fn unsafe_formats_are_verified_only_where_they_are_named() {
    let md5 = "5f4dcc3b5aa765d61d8327deb882cf99";
    assert_eq!(
        StoredHash::parse(md5, NONE_UNSAFE).err(),
        Some(Unusable::Unsafe(PasswordFormat::Md5))
    );
    assert_eq!(
        StoredHash::parse(md5, &[PasswordFormat::Sha1]).err(),
        Some(Unusable::Unsafe(PasswordFormat::Md5))
    );
    assert!(
        StoredHash::parse(md5, &[PasswordFormat::Md5])
            .unwrap()
            .matches("password")
    );
    let plain = StoredHash::parse("hero-lim", &[PasswordFormat::Plain]).unwrap();
    assert!(plain.matches("hero-lim") && !plain.matches("hero"));
    assert_eq!(
        StoredHash::parse("{noop}hero-lim", NONE_UNSAFE).err(),
        Some(Unusable::Unsafe(PasswordFormat::Plain))
    );
}

#[test]
fn unknown_formats_are_named_without_the_hash() {
    let yescrypt = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7";
    for (text, name) in [
        (yescrypt, "$y$"),
        (
            "{ldap}cn=customer,dc=example,dc=com,and some more text here",
            "{ldap}",
        ),
        (
            "sha512_crypt$12000$salt$0123456789abcdef0123456789abcdef",
            "sha512_crypt$",
        ),
        ("hunter2", "unknown"),
        ("my$secret", "unknown"),
        ("{my}secret", "unknown"),
    ] {
        let e = StoredHash::parse(text, NONE_UNSAFE).err().unwrap();
        assert_eq!(e, Unusable::UnknownFormat(name.to_owned()));
    }
}

#[test]
fn accounts_without_a_password_have_none() {
    for text in ["", "!", "!abc", "*", "*0"] {
        assert_eq!(
            StoredHash::parse(text, NONE_UNSAFE).err(),
            Some(Unusable::NoPassword),
            "{text}"
        );
    }
}

#[test]
fn damaged_hashes_are_unknown() {
    let good = django_hash("x", "salt", FEW);
    let damaged = [
        good[..good.len() - 4].to_owned(),
        good.replace("$10$", "$0$"),
        good.replace("$salt$", "$$"),
        format!("{good}$"),
        good.replace("sha256", "sha512"),
        "$2b$04$short".to_owned(),
        "$argon2id$v=19$m=64$c2FsdHNhbHQ$aGFzaA".to_owned(),
        "scrypt$1023$salt$8$1$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned(),
    ];
    for text in damaged {
        let e = StoredHash::parse(&text, NONE_UNSAFE).err();
        assert!(matches!(e, Some(Unusable::UnknownFormat(_))), "{text}: {e:?}");
    }
}

#[test]
fn costs_that_would_block_the_threads_are_refused() {
    let hash = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for (text, format) in [
        (
            format!("pbkdf2_sha256$5000001$salt${hash}="),
            PasswordFormat::DjangoPbkdf2Sha256,
        ),
        (
            "$2a$16$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".to_owned(),
            PasswordFormat::Bcrypt,
        ),
        (
            format!("$argon2id$v=19$m=1048576,t=1,p=1$c2FsdHNhbHQ${hash}"),
            PasswordFormat::Argon2,
        ),
        (
            format!("$argon2id$v=19$m=262144,t=9,p=1$c2FsdHNhbHQ${hash}"),
            PasswordFormat::Argon2,
        ),
        (
            format!("scrypt$1048576$salt$8$1${hash}="),
            PasswordFormat::DjangoScrypt,
        ),
        (format!("$P$S12345678{}", "a".repeat(22)), PasswordFormat::Phpass),
    ] {
        assert_eq!(
            StoredHash::parse(&text, NONE_UNSAFE).err(),
            Some(Unusable::TooCostly(format)),
            "{text}"
        );
    }
}
