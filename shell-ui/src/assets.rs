//! The files that pages refer to, compiled in and served under names that carry a hash of their content.
//!
//! Such a name never changes its meaning, so the answer may be cached for ever and by anyone: put a CDN in front by
//! setting the base URL. The one exception is the script of the shared worker, which browsers accept from the page's own
//! origin only; it has a fixed path ([`WORKER_PATH`]) and its version in the query.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use crate::icons::{ICON_NAMES, icon_file};

/// The path of the shared worker's script, on the pages' own origin. Serve [`Assets::worker`] there.
pub const WORKER_PATH: &str = "/app/live-worker.js";

/// A file to be served.
#[derive(Debug, Clone)]
pub struct Asset {
    /// The content.
    pub bytes: Cow<'static, [u8]>,
    /// The value for `Content-Type`.
    pub content_type: &'static str,
    /// The first 16 hexadecimal digits of the content's SHA-256; in quotes it is a strong `ETag`.
    pub hash: String,
    /// Whether the name carries the hash: then `Cache-Control: public, max-age=31536000, immutable` is right,
    /// otherwise `no-cache`.
    pub immutable: bool,
}

/// Where assets are, and what they are.
#[derive(Debug, Clone)]
pub struct Assets {
    base: String,
}

impl Assets {
    /// Assets below `base`, which is empty for the pages' own origin or an origin such as `https://cdn.example.org`
    /// (a trailing slash is dropped). A CDN passes on what `/assets/…` answers, with `Access-Control-Allow-Origin: *`,
    /// since browsers load modules from another origin only with that.
    pub fn new(base: &str) -> Self {
        Self { base: base.trim_end_matches('/').to_owned() }
    }

    /// The address of an asset by its plain name, such as `app.css`. An unknown name gives an address that answers 404:
    /// a page with a missing picture is better than no page.
    pub fn url(&self, name: &str) -> String {
        match CATALOGUE.hashed_names.get(name) {
            Some(hashed) => format!("{}/assets/{hashed}", self.base),
            None => format!("{}/assets/{name}", self.base),
        }
    }

    /// The asset for what follows `/assets/` in a request's path. Only hashed names are served.
    pub fn get(path: &str) -> Option<&'static Asset> {
        CATALOGUE.files.get(path)
    }

    /// The script of the shared worker, to be served at [`WORKER_PATH`].
    pub fn worker() -> &'static Asset {
        &CATALOGUE.worker
    }

    /// Where pages find the shared worker: the path, and the content's hash as its version.
    pub fn worker_url() -> String {
        format!("{WORKER_PATH}?v={}", CATALOGUE.worker.hash)
    }

    /// The names of all assets, hashed, as they are served.
    pub fn names() -> impl Iterator<Item = &'static str> {
        CATALOGUE.files.keys().map(String::as_str)
    }

    /// The origin that a content security policy must allow for scripts, styles and images, if it isn't the pages' own.
    pub fn other_origin(&self) -> Option<&str> {
        (!self.base.is_empty()).then_some(self.base.as_str())
    }
}

struct Catalogue {
    /// From a plain name to the name with the hash.
    hashed_names: HashMap<String, String>,
    /// From the name with the hash to the file.
    files: HashMap<String, Asset>,
    worker: Asset,
}

/// One style sheet from several: the browser asks once, the authors keep them apart.
const STYLES: [&str; 4] = [
    include_str!("../css/tokens.css"),
    include_str!("../css/base.css"),
    include_str!("../css/components.css"),
    include_str!("../css/pages.css"),
];

/// Scripts in the order of their dependencies: what a script imports stands before it, because the import names the
/// hash of what is imported.
const SCRIPTS: [(&str, &str); 5] = [
    ("forms.js", include_str!("../js/forms.js")),
    ("live.js", include_str!("../js/live.js")),
    ("app.js", include_str!("../js/app.js")),
    ("embed.js", include_str!("../js/embed.js")),
    ("navigation.js", include_str!("../js/navigation.js")),
];

/// The scripts of the pages that tools show inside their own: no page of the shell loads them.
#[cfg(test)]
const EMBEDDED: [&str; 2] = ["embed.js", "navigation.js"];

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    let mut catalogue = Catalogue {
        hashed_names: HashMap::new(),
        files: HashMap::new(),
        worker: asset(include_bytes!("../js/live-worker.js").as_slice().into(), JAVASCRIPT, false),
    };
    let mut add = |name: &str, bytes: Cow<'static, [u8]>, content_type| {
        let file = asset(bytes, content_type, true);
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, "bin"));
        let hashed = format!("{stem}.{}.{extension}", file.hash);
        catalogue.hashed_names.insert(name.to_owned(), hashed.clone());
        catalogue.files.insert(hashed.clone(), file);
        hashed
    };

    add("app.css", STYLES.concat().into_bytes().into(), "text/css; charset=utf-8");
    add("favicon.svg", include_bytes!("../images/favicon.svg").as_slice().into(), "image/svg+xml");
    // As files of their own, for other tools' pages.
    for name in ICON_NAMES {
        add(&format!("icon-{name}.svg"), icon_file(name).into_bytes().into(), "image/svg+xml");
    }
    let mut imports: Vec<(String, String)> = Vec::new();
    for (name, source) in SCRIPTS {
        let source = imports.iter().fold(source.to_owned(), |source, (from, to)| source.replace(from, to));
        let hashed = add(name, source.into_bytes().into(), JAVASCRIPT);
        imports.push((format!("\"./{name}\""), format!("\"./{hashed}\"")));
    }
    catalogue
});

fn asset(bytes: Cow<'static, [u8]>, content_type: &'static str, immutable: bool) -> Asset {
    let digest = hex::encode(Sha256::digest(&bytes));
    Asset { hash: digest.chars().take(16).collect(), bytes, content_type, immutable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_carries_the_hash_of_the_content() {
        let assets = Assets::new("https://cdn.example.org/");
        let url = assets.url("app.css");
        let path = url.strip_prefix("https://cdn.example.org/assets/").expect("below the base");
        let asset = Assets::get(path).expect("served under the name that pages use");
        assert!(path.contains(&asset.hash));
        assert_eq!(asset.hash, hex::encode(Sha256::digest(&asset.bytes))[..16]);
        assert_eq!(asset.content_type, "text/css; charset=utf-8");
        assert!(asset.immutable);
    }

    #[test]
    fn a_plain_name_is_not_served() {
        assert!(Assets::get("app.css").is_none());
        assert!(Assets::get("../Cargo.toml").is_none());
        assert!(Assets::get("").is_none());
    }

    #[test]
    fn the_same_origin_is_the_default() {
        assert!(Assets::new("").url("app.js").starts_with("/assets/app."));
        assert_eq!(Assets::new("").other_origin(), None);
    }

    #[test]
    fn imports_name_files_that_exist() {
        for name in Assets::names().filter(|name| name.contains(".js")) {
            let asset = Assets::get(name).expect("listed");
            let text = std::str::from_utf8(&asset.bytes).expect("text");
            for imported in text.lines().filter(|line| line.starts_with("import ")) {
                let target = imported
                    .split("\"./")
                    .nth(1)
                    .and_then(|rest| rest.split('"').next())
                    .expect("a relative import");
                assert!(Assets::get(target).is_some(), "{name} imports {target}, which isn't served");
            }
        }
    }

    #[test]
    fn scripts_stay_under_ten_kilobytes() {
        // What a page of the shell loads. The pages inside other tools load none of it: what tools and they tell each other goes by messages
        // alone, so that they can't do without a script, and have small ones of their own.
        let (embedded, of_shell): (Vec<_>, Vec<_>) =
            SCRIPTS.iter().partition(|(name, _)| EMBEDDED.contains(name));
        let of_shell: usize = of_shell.iter().map(|(_, source)| source.len()).sum();
        let shell = of_shell + Assets::worker().bytes.len();
        assert!(shell < 10_240, "{shell} bytes of JavaScript");
        for (name, source) in embedded {
            assert!(source.len() < 2_560, "{} bytes of JavaScript in {name}", source.len());
        }
    }

    #[test]
    fn the_worker_is_served_from_the_pages_own_origin() {
        assert!(Assets::worker_url().starts_with("/app/live-worker.js?v="));
        assert!(!Assets::worker().immutable);
    }
}
