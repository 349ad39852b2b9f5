use std::path::Path;

use clap::Subcommand;
use connector_matrix::{MatrixSettings, Registration, registration_yaml};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::openapi::print;
use crate::{
    config::{Config, MatrixConfig, parse_url},
    ids::{IdGenerator, RandomIds},
};

#[derive(Debug, Subcommand)]
pub(super) enum MatrixCommand {
    /// Print the registration file for the homeserver: Synapse's app_service_config_files
    ///
    /// It holds the tokens of the settings matrix.as_token and matrix.hs_token, or new random ones where these are empty: then
    /// they go from the file into the settings, and hs_token is the secret of the source, too.
    Registration {
        /// The url of the source for the service matrix, which the homeserver pushes to
        #[arg(long)]
        url: Url,
    },
}

pub(super) fn run(config: Option<&Path>, command: MatrixCommand) -> anyhow::Result<()> {
    let config = Config::load(config)?;
    match command {
        MatrixCommand::Registration { url } => print(&registration(&config.matrix, url, &RandomIds)?),
    }
}

fn registration(config: &MatrixConfig, url: Url, ids: &dyn IdGenerator) -> anyhow::Result<String> {
    let token = |set: &SecretString| -> SecretString {
        if !set.expose_secret().is_empty() {
            return set.clone();
        }
        let mut random = [0; 32];
        ids.fill(&mut random);
        hex::encode(random).into()
    };
    anyhow::ensure!(!config.server_name.is_empty(), "matrix.server_name: is missing");
    let settings = MatrixSettings {
        url: parse_url("matrix.url", &config.url)?,
        server_name: config.server_name.clone(),
        as_token: token(&config.as_token),
        hs_token: token(&config.hs_token),
        sender_localpart: config.sender_localpart.clone(),
    };
    Ok(registration_yaml(&Registration { id: config.appservice_id.clone(), url: Some(url) }, &settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_the_settings_or_new_ones() {
        let mut config = Config::defaults().unwrap().matrix;
        config.url = "https://matrix.example.org".to_owned();
        config.server_name = "example.org".to_owned();
        let url = Url::parse("https://chancery.example.org/api/v1/webhooks/matrix/1").unwrap();
        let print = |config: &MatrixConfig| registration(config, url.clone(), &RandomIds).unwrap();
        let (first, second) = (print(&config), print(&config));
        assert_ne!(first, second, "each has new ones");
        let token = |file: &str, name: &str| {
            let line = file.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_matches(|letter| letter == ' ' || letter == '"').to_owned()
        };
        let (to_us, to_it) = (token(&first, "hs_token:"), token(&first, "as_token:"));
        assert!(to_us.len() == 64 && to_it.len() == 64 && to_us != to_it, "{first}");
        assert!(first.starts_with("id: \"chancery\"\n") && first.contains("rate_limited: false"), "{first}");
        (config.as_token, config.hs_token) = ("ours".to_owned().into(), "theirs".to_owned().into());
        let known = print(&config);
        assert_eq!(
            (token(&known, "as_token:"), token(&known, "hs_token:")),
            ("ours".to_owned(), "theirs".to_owned())
        );
        config.server_name = String::new();
        assert!(registration(&config, url.clone(), &RandomIds).is_err());
    }
}
