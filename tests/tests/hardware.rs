//! What the machine below the box says, and the watchdog above it, with the kernel's directories played by a test.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::json;
use tests::{Config, Podium, hls, podium, wait_for};

/// A hot Raspberry Pi on a weak supply.
fn kernel(dir: &Path) -> PathBuf {
    let root = dir.join("kernel");
    for (path, text) in [
        ("sys/class/thermal/thermal_zone0/type", "cpu-thermal"),
        ("sys/class/thermal/thermal_zone0/temp", "61500"),
        (
            "sys/devices/platform/soc/soc:firmware/get_throttled",
            "50005",
        ),
        ("sys/class/block/mmcblk0/device/life_time", "0x02 0x01"),
        ("sys/class/rtc/rtc0/since_epoch", "1800000000"),
        (
            "sys/class/watchdog/watchdog0/identity",
            "Broadcom BCM2835 Watchdog timer",
        ),
        ("sys/class/watchdog/watchdog0/timeout", "15"),
        ("sys/class/watchdog/watchdog0/nowayout", "0"),
        ("watchdog", ""),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn board(root: &Path) -> String {
    let dog = root.join("watchdog");
    format!(
        "[board]\nroot = \"{}\"\nwatchdog = \"{}\"\n",
        root.display(),
        dog.display()
    )
}

#[test]
fn the_box_tells_what_its_machine_says_and_feeds_the_watchdog_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let root = kernel(dir.path());
    let config = Config {
        extra: board(&root),
        ..Config::large()
    };
    let eaten = || fs::read(root.join("watchdog")).unwrap();
    let podium = Podium::start(dir.path(), &config);
    let status = podium.status();
    assert_eq!(
        status["machine"],
        json!({
            "temperature_c": 61.5,
            "undervoltage": "now",
            "throttled": "now",
            "storage": {"worn_percent": 20, "spare": null},
            "clock": {"battery": true, "synchronised": null},
        })
    );
    assert_eq!(status["health"]["word"], "Warning");
    assert_eq!(status["health"]["action"][0], "Power is too weak");
    // The kernel has the firmware forget after two seconds; the box does not.
    let throttled = root.join("sys/devices/platform/soc/soc:firmware/get_throttled");
    fs::write(throttled, "0").unwrap();
    wait_for("what was, not what is", || {
        let machine = &podium.status()["machine"];
        (machine["undervoltage"] == "past" && machine["throttled"] == "past").then_some(())
    });
    // Nothing is measured for a simulated box.
    assert_eq!(
        status["encoder"],
        json!({"element": "x264enc", "preset": "superfast", "reason": "default"})
    );
    assert_eq!(status["hardware"], json!([]));
    wait_for("meals while idle", || (eaten().len() > 1).then_some(()));
    podium.go_live();
    let before = eaten().len();
    wait_for("meals on air", || (eaten().len() > before).then_some(()));
    // A process that dies leaves the watchdog awake, and it bites.
    podium.signal(Signal::KILL);
    assert_eq!(podium.join().code, None);
    assert!(eaten().iter().all(|byte| *byte == b'\n'));

    let podium = Podium::start(dir.path(), &config);
    podium.wait_for_state("live");
    podium.signal(Signal::TERM);
    assert_eq!(podium.join().code, Some(0));
    assert!(
        eaten().ends_with(b"V"),
        "a box that is stopped is not bitten"
    );
}

#[test]
fn the_check_names_what_failed_and_what_is_absent() {
    let dir = tempfile::tempdir().unwrap();
    let root = kernel(dir.path());
    let file = dir.path().join("podium.toml");
    let check = |toml: &str| {
        fs::write(&file, toml).unwrap();
        podium(&["check", "--hardware", "--config", file.to_str().unwrap()])
    };
    let found = check(&board(&root));
    assert_eq!(found.code, Some(1), "{}", found.stdout);
    let line = |part: &str| {
        let mut lines = found.stdout.lines();
        lines
            .find(|line| line.contains(part))
            .unwrap_or_else(|| panic!("{part}: {}", found.stdout))
            .to_owned()
    };
    assert!(line(" front ").starts_with("absent"));
    assert!(line(" power ").starts_with("failed") && line(" power ").contains("own supply"));
    assert!(line(" heat ").starts_with("ok"));
    let unknown = "; set [board] watchdog = \"/dev/watchdog0\"";
    assert!(line(" watchdog ").starts_with("failed") && line(" watchdog ").ends_with(unknown));
    // The check fed nobody, else it would have been bitten at its end.
    assert_eq!(fs::read(root.join("watchdog")).unwrap(), b"");

    fs::write(
        root.join("sys/devices/platform/soc/soc:firmware/get_throttled"),
        "0",
    )
    .unwrap();
    let data = dir.path().join("not/there/yet");
    let known = "[board]\nwatchdog = \"/dev/watchdog\"\n";
    let found = check(&format!("data_dir = {data:?}\n{known}root = {root:?}\n"));
    assert_eq!(found.code, Some(0), "{}", found.stdout);
    let ok = |part: &str, says: &str| {
        let mut lines = found.stdout.lines();
        let line = lines.find(|line| line.starts_with(&format!("ok      {part} ")));
        assert!(
            line.is_some_and(|line| line.ends_with(says)),
            "{part}: {}",
            found.stdout
        );
    };
    ok("disk", " MB left");
    ok(
        "watchdog",
        "Broadcom BCM2835 Watchdog timer bites after 15 s",
    );
    assert!(!dir.path().join("not").exists());
    for (toml, part, says) in [
        (
            "[capture]\nsource = \"file\"\nfile = \"gone.mp4\"\n",
            "recording",
            "clip gone.mp4: No such file",
        ),
        (
            "[capture]\nsource = \"file\"\nfile = \"podium.toml\"\n",
            "recording",
            "name a recording with video",
        ),
        (
            "[capture]\nsource = \"encoded\"\nfile = \"podium.toml\"\n",
            "recording",
            "name a recording with video",
        ),
        (
            "[node]\npeers = [\"mirror.example\"]\n",
            "configuration",
            "[node] peers: \"mirror.example\" is not a peer's address",
        ),
        (
            "[node]\nlisten = [\"4001\"]\n",
            "configuration",
            "is not an address to listen on",
        ),
        (
            "[node]\nswarm_key = \"podium.toml\"\n",
            "configuration",
            "the swarm key is broken",
        ),
        (
            "data_dir = \"/proc/podium\"\n",
            "disk",
            "/proc/podium cannot be written to (",
        ),
        (
            "data_dir = \"podium.toml\"\n",
            "disk",
            "cannot be written to (Not a directory",
        ),
    ] {
        // Files are named from where one stands, as on any command line.
        let toml = toml.replace("podium.toml", file.to_str().unwrap());
        fs::write(&file, &toml).unwrap();
        let found = podium(&["check", "--config", file.to_str().unwrap()]);
        assert_eq!(found.code, Some(1), "{toml}: {}", found.stdout);
        let wrong = format!("failed  {part:<14} ");
        let mut lines = found.stdout.lines();
        let said = lines.any(|line| line.starts_with(&wrong) && line.contains(says));
        assert!(said, "{toml}: {}", found.stdout);
    }
    let refused = check("[video]\nx264_preset = \"placebo\"\n");
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("ultrafast"), "{}", refused.stderr);
}

/// The trial as the box runs it: x264 is measured with the processor's time, not with the clock's.
#[test]
fn a_trial_of_the_encoders_answers_with_costs() {
    let trial = json!({
        "jobs": [{"width": 160, "height": 90, "fps": 10, "kbps": 200}],
        "segment": {"secs": 2, "nanos": 0},
        "v4l2": true,
        "x264": true,
        "cores": 1000,
    });
    let found = podium(&["try-encoders", &trial.to_string()]);
    assert_eq!(found.code, Some(0), "{}", found.stderr);
    let findings: serde_json::Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(findings["v4l2"], "this machine has none");
    let costs = findings["x264"].as_array().unwrap();
    assert_eq!(costs.len(), 6, "{findings}");
    assert!(costs.iter().all(|cost| cost[1].as_f64().unwrap() > 0.0));
    assert_eq!(podium(&["try-encoders", "{}"]).code, Some(2));
}

/// The kernel's files of a machine without a battery behind its clock that has just been started, and the file that says that the
/// network has told the time.
fn without_battery(dir: &Path) -> (PathBuf, PathBuf) {
    let root = dir.join("kernel");
    let timesync = root.join("run/systemd/timesync");
    fs::create_dir_all(&timesync).unwrap();
    fs::create_dir_all(root.join("proc")).unwrap();
    fs::write(root.join("proc/uptime"), "5.04 3.21\n").unwrap();
    (root, timesync.join("synchronized"))
}

/// It goes on from the time of its last shutdown until somebody says what time it is.
#[test]
fn nothing_is_signed_by_a_clock_that_is_about_to_be_set() {
    let dir = tempfile::tempdir().unwrap();
    let (root, synchronized) = without_battery(dir.path());
    let config = Config {
        extra: board(&root),
        ..Config::default()
    };
    let podium = Podium::start(dir.path(), &config);
    podium.go_live();
    podium.wait_for_segments(2);
    assert_eq!(podium.record(), None);
    fs::write(synchronized, "").unwrap();
    wait_for("a record", || podium.record());
}

/// Whether ten minutes have passed since the power cut, or a night, nobody knows before the clock is set.
#[test]
fn what_a_power_cut_ended_goes_on_once_the_time_is_known_or_somebody_wants_it() {
    let dir = tempfile::tempdir().unwrap();
    let (root, synchronized) = without_battery(dir.path());
    fs::write(&synchronized, "").unwrap();
    let config = Config {
        extra: board(&root),
        ..Config::default()
    };
    let podium = Podium::start(dir.path(), &config);
    podium.go_live();
    podium.wait_for_segments(2);
    let cut_off = |podium: Podium| {
        podium.signal(Signal::KILL);
        podium.join();
        fs::remove_file(&synchronized).unwrap();
        let podium = Podium::start(dir.path(), &config);
        let status = podium.status();
        assert_eq!(status["state"]["word"], "retrying", "{status}");
        assert_eq!(status["state"]["cause"], "the time is not known yet");
        assert_eq!(status["health"]["action"][0], "Was on air: when?");
        assert!(!hls::live(&podium, "video").end_list);
        (podium, status["segments"].as_u64().unwrap())
    };
    let set = || fs::write(&synchronized, "").unwrap();

    let (podium, segments) = cut_off(podium);
    set();
    podium.wait_for_state("live");
    podium.wait_for_segments(segments + 1);

    let (podium, segments) = cut_off(podium);
    podium.tap("go_live");
    podium.wait_for_state("live");
    podium.wait_for_segments(segments + 1);
    set();

    let (podium, _) = cut_off(podium);
    podium.stop();
    assert!(hls::live(&podium, "video").end_list);
}

/// The numbers of a name that moves go on from the clock: from a stale one they would be lower than those that were used.
#[test]
fn a_name_moves_only_to_a_machine_that_has_been_told_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let (root, synchronized) = without_battery(dir.path());
    let file = dir.path().join("stale.toml");
    fs::write(&file, board(&root)).unwrap();
    let [old, new, copy] = ["data", "new", "copy"].map(|name| dir.path().join(name));
    fs::create_dir(&new).unwrap();
    drop(Podium::start(dir.path(), &Config::default()));
    let [config, old, new, copy] = [&file, &old, &new, &copy].map(|path| path.to_str().unwrap());
    let done = podium(&["key", "export", copy, "--data-dir", old]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let import = || podium(&["key", "import", copy, "--config", config, "--data-dir", new]);
    let refused = import();
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("timedatectl"), "{}", refused.stderr);
    fs::write(&synchronized, "").unwrap();
    let done = import();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}
