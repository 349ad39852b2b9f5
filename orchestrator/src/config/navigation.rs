use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;

use super::{ConfigError, invalid, is_loopback, origin};

/// The shortest secret of a caller, in bytes.
const SHORTEST_SECRET: usize = 32;

/// `[navigation]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NavigationConfig {
    /// The origins whose pages may read the navigation of who is signed in here.
    pub origins: Vec<String>,
    /// The tools that may ask for anybody's.
    pub callers: Vec<NavigationCallerConfig>,
}

/// An entry of `navigation.callers`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NavigationCallerConfig {
    /// What the log calls it.
    pub name: String,
    /// The file of its secret.
    pub file: PathBuf,
}

/// A tool that may ask for anybody's navigation, with the secret that it shows.
#[derive(Debug)]
pub struct NavigationCaller {
    /// What the log calls it.
    pub name: String,
    /// Its secret.
    pub secret: SecretString,
}

impl NavigationConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        // It becomes a part of a policy, where other characters (`;`, `,`, `'`, `*`) would end it or stand for more than one.
        let is_plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:/[]".contains(&byte));
        let is_origin = |text: &String| {
            Url::parse(text).is_ok_and(|url| {
                is_plain(text)
                    && origin(&url) == *text
                    && (url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url)))
            })
        };
        if let Some(wrong) = self.origins.iter().find(|text| !is_origin(text)) {
            return Err(invalid(
                "navigation.origins",
                format!("{wrong:?} is no https origin: https://element.example.org, without a path"),
            ));
        }
        Ok(())
    }

    /// The callers with what their files hold.
    ///
    /// # Errors
    /// [`ConfigError::SecretFile`], and [`ConfigError::Invalid`] for a secret that could be guessed or is another's.
    pub fn callers(&self) -> Result<Vec<NavigationCaller>, ConfigError> {
        let mut callers: Vec<NavigationCaller> = Vec::new();
        for caller in &self.callers {
            let text = std::fs::read_to_string(&caller.file).map_err(|source| ConfigError::SecretFile {
                setting: "navigation.callers".to_owned(),
                path: caller.file.clone(),
                source,
            })?;
            let secret = text.trim_end_matches(['\r', '\n']);
            let name = &caller.name;
            if secret.len() < SHORTEST_SECRET {
                let problem = format!(
                    "the secret of {name} has less than {SHORTEST_SECRET} bytes (openssl rand -hex 32)"
                );
                return Err(invalid("navigation.callers", problem));
            }
            if callers.iter().any(|other| other.secret.expose_secret() == secret) {
                let problem = format!("{name} has the secret of another one: each has its own");
                return Err(invalid("navigation.callers", problem));
            }
            callers.push(NavigationCaller { name: name.clone(), secret: secret.to_owned().into() });
        }
        Ok(callers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origins_may_read_the_navigation_in_the_browser() {
        let validate = |origin: &str| {
            NavigationConfig { origins: vec![origin.to_owned()], callers: Vec::new() }.validate().is_ok()
        };
        for accepted in
            ["https://element.example.org", "https://element.example.org:8443", "http://127.0.0.1:8083"]
        {
            assert!(validate(accepted), "{accepted}");
        }
        for refused in [
            "*",
            "null",
            "https://element.example.org/",
            "http://element.example.org",
            "element.example.org",
            "https://element.example.org;script-src",
            "https://element.example.org,element.example.com",
            "https://'self'",
            "https://*.example.org",
            "https://element.example.org https://element.example.com",
            "",
        ] {
            assert!(!validate(refused), "{refused}");
        }
    }

    #[test]
    fn each_caller_has_a_secret_of_its_own_that_nobody_can_guess() {
        let folder = std::env::temp_dir();
        let file = |name: &str, secret: &str| {
            let path = folder.join(format!("chancery-navigation-{}-{name}", std::process::id()));
            std::fs::write(&path, secret).unwrap();
            NavigationCallerConfig { name: name.to_owned(), file: path }
        };
        let read = |callers: Vec<NavigationCallerConfig>| {
            NavigationConfig { origins: Vec::new(), callers }.callers()
        };
        let long = "0123456789abcdef0123456789abcdef";
        let first = file("first", &format!("{long}\n"));
        let read_back = read(vec![first.clone()]).unwrap();
        assert_eq!(read_back[0].secret.expose_secret(), long);
        let same = read(vec![first, file("second", long)]).unwrap_err().to_string();
        assert!(same.contains("second has the secret of another"), "{same}");
        assert!(!same.contains(long));
        assert!(read(vec![file("third", "guess")]).unwrap_err().to_string().contains("third"));
        let nowhere = NavigationCallerConfig { name: "n".to_owned(), file: "/nowhere/secret".into() };
        assert!(read(vec![nowhere]).unwrap_err().to_string().contains("/nowhere/secret"));
    }
}
