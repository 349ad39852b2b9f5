//! Secrets in what was received, by the names of their fields: whoever may see a webhook needn't see what it opens doors with.
//! What people wrote, names and addresses stay: those with the right may read conversations, too.

use serde_json::Value;

/// What stands where a secret was.
const MASK: &str = "•••";

/// A name with one of these in it, whatever its case and punctuation, names a secret.
const PARTS: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "credential",
    "authorization",
    "cookie",
    "signature",
    "sessionid",
    "hmac",
];
/// The whole name is one of these.
const NAMES: [&str; 9] = ["auth", "pwd", "pin", "otp", "totp", "cvv", "cvc", "jwt", "sig"];

/// Text with its secrets replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Masked {
    /// None where it isn't text.
    pub text: Option<String>,
    /// How many values were replaced.
    pub count: u64,
}

/// A body with its secrets replaced: JSON and forms field by field, other text by what looks like a field.
pub(super) fn body(raw: &[u8], content_type: Option<&str>) -> Masked {
    let Ok(text) = std::str::from_utf8(raw) else { return Masked { text: None, count: 0 } };
    let is_form = content_type.is_some_and(|kind| {
        kind.trim_start().to_ascii_lowercase().starts_with("application/x-www-form-urlencoded")
    });
    let mut count = 0;
    let text = match structure(text) {
        Some(mut value) => {
            mask_value(&mut value, &mut count);
            serde_json::to_string_pretty(&value).unwrap_or_default()
        }
        None if is_form => form(raw, &mut count),
        None => free_text(text, &mut count),
    };
    Masked { text: Some(text), count }
}

/// A header's value with its secrets replaced.
pub(super) fn header(name: &str, value: &str, count: &mut u64) -> String {
    if is_secret(name) && !value.is_empty() {
        *count += 1;
        MASK.to_owned()
    } else {
        free_text(value, count)
    }
}

fn is_secret(name: &str) -> bool {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
    NAMES.contains(&plain.as_str()) || PARTS.iter().any(|part| plain.contains(part))
}

/// A JSON object or array.
fn structure(text: &str) -> Option<Value> {
    let begins = text.trim_start().starts_with(['{', '[']);
    if begins { serde_json::from_str(text).ok() } else { None }
}

fn mask_value(value: &mut Value, count: &mut u64) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let says_nothing = match member {
                    Value::Null | Value::Bool(_) => true,
                    Value::String(text) => text.is_empty(),
                    Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
                };
                if is_secret(name) && !says_nothing {
                    *count += 1;
                    *member = MASK.into();
                } else {
                    mask_value(member, count);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask_value(item, count)),
        // JSON in a string is JSON all the same.
        Value::String(text) => *text = nested(text, count),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn nested(text: &str, count: &mut u64) -> String {
    match structure(text) {
        Some(mut value) => {
            mask_value(&mut value, count);
            value.to_string()
        }
        None => free_text(text, count),
    }
}

/// A field a line.
fn form(raw: &[u8], count: &mut u64) -> String {
    let mut lines = Vec::new();
    for (name, value) in form_urlencoded::parse(raw) {
        let value = if is_secret(&name) && !value.is_empty() {
            *count += 1;
            MASK.to_owned()
        } else {
            nested(&value, count)
        };
        lines.push(format!("{name}={value}"));
    }
    lines.join("\n")
}

fn is_of_a_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-')
}

fn ends_value(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '"' | '\'' | '&' | ',' | ';' | '<' | ')' | '}' | ']')
}

/// Splits where the first letter is that `is_end` means.
fn until(text: &str, is_end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(is_end).unwrap_or(text.len()))
}

fn is_scheme(word: &str) -> bool {
    word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic")
}

/// The length of the secret's value that begins here, if one does.
fn value_length(text: &str) -> usize {
    let (value, rest) = until(text, ends_value);
    if !is_scheme(value) {
        return value.len();
    }
    let (token, _) = until(rest.trim_start_matches(' '), ends_value);
    value.len() + (rest.len() - rest.trim_start_matches(' ').len()) + token.len()
}

/// How much of `rest`, which follows a secret's name, leads to its value: `=`, `: `, `">`.
fn lead_length(rest: &str) -> Option<usize> {
    let quoted = rest.trim_start_matches(['"', '\'']);
    let after = quoted.trim_start_matches(' ');
    let after = after.strip_prefix(['=', ':']).or_else(|| quoted.strip_prefix('>'))?;
    let value = after.trim_start_matches(' ').trim_start_matches(['"', '\'']);
    Some(rest.len() - value.len())
}

/// Text with the values of what looks like a secret's field replaced (`token=…`, `Authorization: Bearer …`), and JSON Web Tokens
/// wherever they stand.
fn free_text(text: &str, count: &mut u64) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_of_a_name) {
        masked.push_str(&rest[..at]);
        rest = &rest[at..];
        let (token, after_token) = until(rest, |letter| !is_of_a_name(letter) && letter != '.');
        if token.starts_with("eyJ") && token.bytes().filter(|byte| *byte == b'.').count() >= 2 {
            masked.push_str(MASK);
            *count += 1;
            rest = after_token;
            continue;
        }
        let (word, after) = until(rest, |letter| !is_of_a_name(letter));
        masked.push_str(word);
        rest = after;
        let lead = if is_secret(word) {
            lead_length(after)
        } else {
            // A scheme's token is longer than a word of a sentence.
            let token = after.trim_start_matches(' ');
            let is_token = token.len() < after.len() && until(token, ends_value).0.len() >= 16;
            (is_scheme(word) && is_token).then(|| after.len() - token.len())
        };
        let Some(lead) = lead else { continue };
        let length = value_length(&after[lead..]);
        if length > 0 {
            masked.push_str(&after[..lead]);
            masked.push_str(MASK);
            *count += 1;
            rest = &after[lead + length..];
        }
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(value: &Value) -> (Value, u64) {
        let masked = body(value.to_string().as_bytes(), Some("application/json"));
        (serde_json::from_str(&masked.text.unwrap()).unwrap(), masked.count)
    }

    #[test]
    fn secrets_of_json_are_masked_by_their_names_however_deep_and_nothing_else() {
        let (value, count) = shown(&json!({
            "event": "message_created",
            "pubsub_token": "abc",
            "sender": { "email": "connie@example.org", "identifierHash": "x", "AccessToken": "s", "pin": 1234 },
            "list": [{ "api-key": { "id": 1 } }, { "secrets": ["a", "b"] }],
            "token": null, "has_token": true, "password": "",
            "content": "Hello",
        }));
        assert_eq!(
            value,
            json!({
                "event": "message_created",
                "pubsub_token": MASK,
                "sender": { "email": "connie@example.org", "identifierHash": "x", "AccessToken": MASK, "pin": MASK },
                "list": [{ "api-key": MASK }, { "secrets": MASK }],
                "token": null, "has_token": true, "password": "",
                "content": "Hello",
            })
        );
        assert_eq!(count, 5);
    }

    #[test]
    fn secrets_inside_of_texts_are_masked() {
        let (value, count) = shown(&json!({
            "url": "https://example.org/file?X-Amz-Signature=abcdef&name=a.png",
            "nested": "{\"client_secret\":\"s\",\"n\":1}",
            "words": "The secret of good tea, and a bearer of news.",
        }));
        assert_eq!(value["url"], "https://example.org/file?X-Amz-Signature=•••&name=a.png");
        assert_eq!(value["nested"], "{\"client_secret\":\"•••\",\"n\":1}");
        assert_eq!(value["words"], "The secret of good tea, and a bearer of news.");
        assert_eq!(count, 2);
    }

    #[test]
    fn forms_and_other_texts_are_masked_too() {
        let raw = b"token=abc&text=a+b&payload=%7B%22token%22%3A%22x%22%7D&empty_token=";
        let masked = body(raw, Some("application/x-www-form-urlencoded; charset=utf-8"));
        assert_eq!(masked.text.unwrap(), "token=•••\ntext=a b\npayload={\"token\":\"•••\"}\nempty_token=");
        assert_eq!(masked.count, 2);
        for (text, expected) in [
            ("Authorization: Bearer abcdefgh, x", "Authorization: •••, x"),
            ("<password>hunter2</password>", "<password>•••</password>"),
            ("\"api_key\" : \"x y\"", "\"api_key\" : \"••• y\""),
            ("Bearer abcdefghijklmnopqrst", "Bearer •••"),
            ("see eyJhbGciOiJI.eyJzdWIi.c2ln!", "see •••!"),
            ("pässword=ü token=ü&x", "pässword=ü token=•••&x"),
            ("token", "token"),
            ("token=", "token="),
            ("", ""),
        ] {
            assert_eq!(body(text.as_bytes(), None).text.unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_text_is_not_shown() {
        assert_eq!(body(b"\xff\xfe", None), Masked { text: None, count: 0 });
    }

    #[test]
    fn headers_are_masked_by_their_names_and_their_values() {
        let mut count = 0;
        assert_eq!(header("x-chatwoot-signature", "sha256=00", &mut count), MASK);
        assert_eq!(header("referer", "https://x/?token=a", &mut count), "https://x/?token=•••");
        assert_eq!(header("user-agent", "curl/8", &mut count), "curl/8");
        assert_eq!(count, 2);
    }
}
