use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Claims {
    sub: String,
    exp: i64,
}

fn keys(ids: &[u8]) -> SigningKeys {
    SigningKeys::new("pass", &ids.iter().map(|&id| (id, [id; 32])).collect())
}

#[test]
fn a_signed_token_verifies_and_survives_key_rotation() {
    let claims = Claims {
        sub: "x".into(),
        exp: 1,
    };
    let token = keys(&[1]).sign("pass+jwt", &claims);
    assert_eq!(
        keys(&[1, 2]).verify::<Claims>("pass+jwt", &token),
        Ok(claims.clone())
    );
    assert_eq!(
        keys(&[2]).verify::<Claims>("pass+jwt", &token),
        Err(TokenError::Signature)
    );
    assert_eq!(
        keys(&[1]).verify::<Claims>("ticket+jwt", &token),
        Err(TokenError::Purpose)
    );
    assert_eq!(
        keys(&[1]).verify::<Claims>("pass+jwt", "a.b.c"),
        Err(TokenError::Malformed)
    );
    assert_eq!(keys(&[1, 2]).jwks().len(), 2);
    assert_eq!(
        VerifyingKeys::from_jwks(&keys(&[1, 2]).jwks()).verify::<Claims>("pass+jwt", &token),
        Ok(claims)
    );
    assert_eq!(
        VerifyingKeys::from_jwks(&keys(&[2]).jwks()).verify::<Claims>("pass+jwt", &token),
        Err(TokenError::Signature)
    );
}

#[test]
fn a_changed_token_is_refused() {
    let token = keys(&[1]).sign(
        "t",
        &Claims {
            sub: "fan".into(),
            exp: 1,
        },
    );
    let forged = keys(&[1]).sign(
        "t",
        &Claims {
            sub: "bot".into(),
            exp: 1,
        },
    );
    let (payload, signature) = (
        forged.rsplit_once('.').unwrap().0,
        token.rsplit_once('.').unwrap().1,
    );
    assert_eq!(
        keys(&[1]).verify::<Claims>("t", &format!("{payload}.{signature}")),
        Err(TokenError::Signature)
    );
}

#[test]
fn a_mac_is_valid_for_its_message_and_key_only() {
    let keys = MacKeys::new(&BTreeMap::from([(1, [1; 32]), (2, [2; 32])]));
    let tag = keys.tag(keys.current(), b"entry 7").unwrap();
    assert_eq!(keys.current(), 2);
    assert!(keys.verify(2, b"entry 7", &tag));
    assert!(!keys.verify(1, b"entry 7", &tag));
    assert!(!keys.verify(2, b"entry 8", &tag));
    assert!(!keys.verify(9, b"entry 7", &tag));
    assert!(!keys.verify(2, b"entry 7", &tag[..8]));
}

#[test]
fn a_keyed_hash_does_not_change_when_a_key_is_added() {
    let old = MacKeys::new(&BTreeMap::from([(1, [1; 32])]));
    let new = MacKeys::new(&BTreeMap::from([(1, [1; 32]), (2, [2; 32])]));
    assert_eq!(old.keyed_hash(b"customer:1"), new.keyed_hash(b"customer:1"));
}
