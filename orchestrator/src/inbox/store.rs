//! What is stored of a delivery: text as PostgreSQL can hold it, and the key of what was received.

/// Text as PostgreSQL can hold it (without NUL), cut to `most` characters.
pub(super) fn storable(text: &str, most: usize) -> String {
    text.chars().take(most).map(|letter| if letter == '\0' { '\u{fffd}' } else { letter }).collect()
}

/// A transaction id or a delivery is the same for the same source only.
pub(super) fn key_hash(parts: &[&[u8]]) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_where_its_parts_end() {
        assert_ne!(key_hash(&[b"ab", b"c"]), key_hash(&[b"a", b"bc"]));
        assert_eq!(key_hash(&[b"ab", b"c"]), key_hash(&[b"ab", b"c"]));
    }
}
