//! What keeps the box from starting: one line that says what to do, exit status 2, nothing harmed. A disk does not: `no_disk.rs`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tests::{Config, Exit, Podium, http, root};

/// One line, without a backtrace, that names `what` and says what to do.
fn check(exit: &Exit, what: &[&str]) {
    assert_eq!(exit.code, Some(2), "{}", exit.stderr);
    // The log may say what was done before; the last word is the reason.
    let lines: Vec<&str> = exit.stderr.lines().collect();
    let last = lines.last().expect("it says why");
    assert!(last.starts_with("podium: "), "{}", exit.stderr);
    for word in what {
        assert!(last.contains(word), "{word:?} is not in: {last}");
    }
    for line in &lines {
        assert!(
            !line.contains("panicked") && !line.contains("stack backtrace"),
            "{}",
            exit.stderr
        );
    }
    let said = lines
        .iter()
        .filter(|line| line.starts_with("podium: "))
        .count();
    assert_eq!(said, 1, "one line: {}", exit.stderr);
}

fn refused(config: &Config, what: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    check(&Podium::refuse(dir.path(), config), what);
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    refused(
        &Config {
            extra: "[video]\nwidht = 1280\n".into(),
            ..Config::default()
        },
        // The config of the tests has 11 lines before these.
        &["podium.toml:14: ", "widht", "width"],
    );
}

#[test]
fn a_config_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let exit = Podium::refuse_with(dir.path(), &dir.path().join("missing.toml"), &[]);
    check(&exit, &["missing.toml", "name a config file"]);
}

#[test]
fn a_missing_clip_is_named() {
    refused(
        &Config::file(Path::new("/nowhere/talk.mp4")),
        &["/nowhere/talk.mp4", "[capture] file"],
    );
}

#[test]
fn a_broken_clip_is_named() {
    refused(
        &Config::file(&root().join("Cargo.toml")),
        &["Cargo.toml", "[capture] file"],
    );
}

#[test]
fn a_missing_element_is_named_with_its_package() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("podium.toml");
    std::fs::write(
        &config,
        format!(
            "data_dir = \"{}\"\n[viewer]\nlisten = \"127.0.0.1:0\"\n[operator]\nlisten = \"127.0.0.1:0\"\n[node]\nlisten = []\nmdns = false\n",
            dir.path().join("data").display()
        ),
    )
    .unwrap();
    // GStreamer looks for its plugins in an empty directory.
    let plugins = dir.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    let plugins = plugins.display().to_string();
    let registry = dir.path().join("registry.bin").display().to_string();
    let environment = [
        ("GST_PLUGIN_SYSTEM_PATH_1_0", plugins.as_str()),
        ("GST_PLUGIN_PATH_1_0", plugins.as_str()),
        ("GST_REGISTRY_1_0", registry.as_str()),
    ];
    let exit = Podium::refuse_with(dir.path(), &config, &environment);
    check(
        &exit,
        &["GStreamer element", "is missing: install gstreamer1.0-"],
    );
}

#[test]
fn ports_in_use_are_named_with_their_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (section, key) in [
        ("viewer", "[viewer] listen"),
        ("operator", "[operator] listen"),
    ] {
        let config = dir.path().join("podium.toml");
        let other = if section == "viewer" {
            "operator"
        } else {
            "viewer"
        };
        std::fs::write(
            &config,
            format!(
                "data_dir = \"{}\"\n[{section}]\nlisten = \"{address}\"\n[{other}]\nlisten = \"127.0.0.1:0\"\n[node]\nlisten = []\n",
                dir.path().join("data").display()
            ),
        )
        .unwrap();
        let exit = Podium::refuse_with(dir.path(), &config, &[]);
        check(&exit, &[&address.to_string(), key]);
    }
    let config = dir.path().join("podium.toml");
    std::fs::write(
        &config,
        format!(
            "data_dir = \"{}\"\n[viewer]\nlisten = \"127.0.0.1:0\"\n[operator]\nlisten = \"127.0.0.1:0\"\n[node]\nlisten = [\"/ip4/127.0.0.1/tcp/{}\"]\n",
            dir.path().join("data").display(),
            address.port()
        ),
    )
    .unwrap();
    let exit = Podium::refuse_with(dir.path(), &config, &[]);
    check(&exit, &[&address.port().to_string(), "[node] listen"]);
}

#[test]
fn a_second_box_on_the_same_data_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let first = Podium::start(dir.path(), &Config::default());
    first.go_live();
    let second = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(dir.path().join("data"), second.path().join("data")).unwrap();
    check(
        &Podium::refuse(second.path(), &Config::default()),
        &["another podium", "data"],
    );
    assert_eq!(first.state(), "live");
    let seen = first.status()["segments"].as_u64().unwrap();
    first.wait_for_segments(seen + 1);
    assert_eq!(
        http::get(&format!("{}/live/index.m3u8", first.viewer)).status,
        200
    );
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("data"), "a file, not a directory").unwrap();
    check(&Podium::refuse(dir.path(), &Config::default()), &["data"]);

    // No box has run there, so somebody has named a wrong place, and is there to see it. Root may write anywhere a permission forbids,
    // but for the kernel's own file systems.
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    if rustix::process::geteuid().is_root() {
        let config = dir.path().join("podium.toml");
        std::fs::write(&config, "data_dir = \"/sys/podium\"\n[viewer]\nlisten = \"127.0.0.1:0\"\n[operator]\nlisten = \"127.0.0.1:0\"\n[node]\nlisten = []\n").unwrap();
        check(
            &Podium::refuse_with(dir.path(), &config, &[]),
            &["/sys/podium"],
        );
    } else {
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o555)).unwrap();
        check(&Podium::refuse(dir.path(), &Config::default()), &["data"]);
    }
}
