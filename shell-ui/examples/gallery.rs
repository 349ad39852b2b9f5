//! Writes every page with sample data into a directory, with its assets, to be looked at.
//!
//! `cargo run -p shell-ui --features samples --example gallery -- <directory>`, then serve the directory with any
//! static server. Pages refer to `/assets/…`, so it has to be the server's root.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

use shell_ui::{Assets, Theme, Ui, samples};

fn main() -> io::Result<()> {
    let directory = env::args().nth(1).unwrap_or_else(|| "target/gallery".to_owned());
    let directory = Path::new(&directory);
    fs::create_dir_all(directory.join("assets"))?;
    fs::create_dir_all(directory.join("app"))?;
    for name in Assets::names() {
        if let Some(asset) = Assets::get(name) {
            fs::write(directory.join("assets").join(name), &asset.bytes)?;
        }
    }
    fs::write(directory.join("app/live-worker.js"), &Assets::worker().bytes)?;

    let mut index = String::from("<!doctype html><html lang=en><title>Gallery</title><h1>Gallery</h1>");
    for (theme, place) in [(Theme::System, ""), (Theme::Light, "light/"), (Theme::Dark, "dark/")] {
        fs::create_dir_all(directory.join(place))?;
        for (name, page) in samples::all(&Ui::new("").with_theme(theme)).map_err(io::Error::other)? {
            fs::write(directory.join(format!("{place}{name}.html")), page)?;
            let _ = write!(index, "<p><a href=\"{place}{name}.html\">{place}{name}</a>");
        }
    }
    fs::write(directory.join("index.html"), index)
}
