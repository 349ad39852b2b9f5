use url::Url;

use crate::client::MatrixSettings;

/// What the homeserver has to be told beside the [`MatrixSettings`].
#[derive(Debug, Clone)]
pub struct Registration {
    /// The application service's id; unique on the homeserver, never changed.
    pub id: String,
    /// Where the homeserver reaches us; `/_matrix/app/v1/…` is added to it. Without one it pushes nothing.
    pub url: Option<Url>,
}

/// The registration file (Application Service API, "Registration") for Synapse's `app_service_config_files`. It holds
/// both tokens: it is as secret as they are.
///
/// The namespaces are narrow on purpose. Users are `sender_localpart` and what begins with it and `_`; aliases begin
/// with it and `_`. A namespace over all users would have the homeserver push every room of everybody.
pub fn registration_yaml(registration: &Registration, settings: &MatrixSettings) -> String {
    use secrecy::ExposeSecret as _;

    let sender = escape_regex(&settings.sender_localpart);
    let server = escape_regex(&settings.server_name);
    let url = registration
        .url
        .as_ref()
        .map_or_else(|| "null".to_owned(), |url| quote(url.as_str().trim_end_matches('/')));
    format!(
        "id: {id}\n\
         url: {url}\n\
         as_token: {as_token}\n\
         hs_token: {hs_token}\n\
         sender_localpart: {sender_localpart}\n\
         rate_limited: false\n\
         receive_ephemeral: false\n\
         namespaces:\n\
         \x20 users:\n\
         \x20   - exclusive: true\n\
         \x20     regex: {users}\n\
         \x20 aliases:\n\
         \x20   - exclusive: true\n\
         \x20     regex: {aliases}\n\
         \x20 rooms: []\n\
         protocols: []\n",
        id = quote(&registration.id),
        as_token = quote(settings.as_token.expose_secret()),
        hs_token = quote(settings.hs_token.expose_secret()),
        sender_localpart = quote(&settings.sender_localpart),
        users = quote(&format!("@{sender}(_.*)?:{server}")),
        aliases = quote(&format!("#{sender}_.*:{server}")),
    )
}

/// A YAML scalar. A JSON string is one (YAML 1.2, section 1.2), whatever characters it holds.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn escape_regex(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if !character.is_ascii_alphanumeric() && character != '_' && character != '-' {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registration_is_narrow_and_quotes_what_it_is_given() {
        let settings = MatrixSettings {
            url: Url::parse("https://matrix.example.org").unwrap(),
            server_name: "example.org".to_owned(),
            as_token: "as: \"x\"".to_owned().into(),
            hs_token: "hs".to_owned().into(),
            sender_localpart: "_chancery".to_owned(),
        };
        let registration = Registration {
            id: "chancery".to_owned(),
            url: Some(Url::parse("http://chancery:8080/webhooks/matrix/acme/").unwrap()),
        };
        let expected = r##"id: "chancery"
url: "http://chancery:8080/webhooks/matrix/acme"
as_token: "as: \"x\""
hs_token: "hs"
sender_localpart: "_chancery"
rate_limited: false
receive_ephemeral: false
namespaces:
  users:
    - exclusive: true
      regex: "@_chancery(_.*)?:example\\.org"
  aliases:
    - exclusive: true
      regex: "#_chancery_.*:example\\.org"
  rooms: []
protocols: []
"##;
        assert_eq!(registration_yaml(&registration, &settings), expected);
        let silent = Registration { url: None, ..registration };
        assert!(registration_yaml(&silent, &settings).contains("\nurl: null\n"));
    }
}
