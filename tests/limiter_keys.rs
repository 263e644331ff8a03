//! What a key is made of: bytes, a structure, a secret.
#![cfg(not(escope_model))]

#[path = "support/limiter_oracle.rs"]
mod oracle;
#[path = "support/limiter_setup.rs"]
mod setup;

use elixirscope::limiter::{Limiter, LimiterConfig};
use setup::limiter;

#[test]
fn a_binary_has_one_key_under_a_secret_and_another_under_another() {
    let (ours, same) = (limiter(8), limiter(8));
    let other =
        Limiter::new(&LimiterConfig { max_keys: 8, secret: Some([8; 16]), ..LimiterConfig::default() })
            .unwrap();
    assert_eq!(ours.key(b"user:1"), same.key(b"user:1"));
    assert_ne!(ours.key(b"user:1"), ours.key(b"user:2"));
    assert_ne!(ours.key(b"user:1"), other.key(b"user:1"));
    assert!(ours.key(b"user:1").to_raw() < 1 << 56);
    let drawn = || {
        Limiter::new(&LimiterConfig { max_keys: 8, secret: None, ..LimiterConfig::default() })
            .unwrap()
            .key(b"user:1")
    };
    assert_ne!(drawn(), drawn());
}

/// The first entry of the known table of SipHash-1-3: key 00 01 .. 0f, no bytes.
#[test]
fn keys_are_siphash_1_3() {
    let secret = std::array::from_fn(|index| index as u8);
    let limiter =
        Limiter::new(&LimiterConfig { max_keys: 8, secret: Some(secret), ..LimiterConfig::default() })
            .unwrap();
    assert_eq!(limiter.key(&[]).to_raw(), 0xabac_0158_050f_c4dc & ((1 << 56) - 1));
}

#[test]
fn a_structured_key_never_meets_a_binary() {
    let limiter = limiter(8);
    let mut hasher = limiter.key_hasher();
    hasher.write_u8(1);
    hasher.write_u64(7);
    hasher.write(b"name");
    let mut spelled = vec![1];
    spelled.extend_from_slice(&7_u64.to_le_bytes());
    spelled.extend_from_slice(b"name");
    assert_ne!(hasher.finish(), limiter.key(&spelled));

    let mut at_once = limiter.key_hasher();
    at_once.write(&spelled);
    assert_eq!(hasher.finish(), at_once.finish(), "pieces hash like their concatenation");
    assert_eq!(limiter.key_hasher().finish_with(&spelled), at_once.finish());

    let mut begun = limiter.key_hasher();
    begun.write(&spelled[..3]);
    assert_eq!(begun.finish_with(&spelled[3..]), at_once.finish());
}
