//! The pages are built by Vite before cargo and embedded in the binary: without them there is nothing to embed.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=web/dist");
    if !["watch.html", "player.html"]
        .iter()
        .all(|page| Path::new("web/dist").join(page).exists())
    {
        println!("cargo::error=the pages are not built yet: run `make web` first");
        std::process::exit(1);
    }
}
