use connector_core::IdGenerator;

/// Lower-case base 32 (RFC 4648, section 6): 5 bits a character, no character that a URL or a JID would escape.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const RANDOM_BYTES: usize = 10;
const LONGEST_NAME: usize = 64;

/// A new room's name: `c-` and 16 characters of `[a-z2-7]`, which hold 80 random bits. It says nothing about the
/// tenant or the people.
pub fn new_room_name(ids: &dyn IdGenerator) -> String {
    let mut random = [0_u8; RANDOM_BYTES];
    ids.fill(&mut random);
    let bits = random.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    let digits = RANDOM_BYTES * 8 / 5;
    let mut name = String::with_capacity(2 + digits);
    name.push_str("c-");
    for digit in (0..digits).rev() {
        let index = usize::try_from(bits >> (digit * 5) & 0x1f).unwrap_or(0);
        name.push(char::from(ALPHABET[index]));
    }
    name
}

/// Whether `name` is a room's name as Chancery makes them: 1 to 64 characters of `[a-z0-9-]`.
///
/// Jitsi's client folds names to lower case and escapes what isn't safe in a JID; a name of these characters is the
/// same before and after, so that the room in the token and the room in the URL can't come apart.
pub fn is_room_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use connector_core::RandomIds;

    use super::*;

    #[test]
    fn a_new_room_name_holds_eighty_random_bits_in_safe_characters() {
        let names: HashSet<String> = (0..1_000).map(|_| new_room_name(&RandomIds)).collect();
        assert_eq!(names.len(), 1_000, "no name came twice");
        for name in &names {
            assert!(is_room_name(name), "{name}");
            assert_eq!(name.len(), 18);
            assert!(name[2..].bytes().all(|byte| ALPHABET.contains(&byte)), "{name}");
        }
        for position in 2..18 {
            let seen: HashSet<u8> = names.iter().map(|name| name.as_bytes()[position]).collect();
            assert!(seen.len() > 24, "position {position} takes only {} values", seen.len());
        }
    }

    #[test]
    fn only_lower_case_letters_digits_and_hyphens_make_a_room_name() {
        assert!(is_room_name("c-a7"));
        for name in ["", "*", "C-a7", "a/b", "a b", "[acme]a", "r\u{e4}um", "a%41", "a.b", &"a".repeat(65)] {
            assert!(!is_room_name(name), "{name}");
        }
    }
}
