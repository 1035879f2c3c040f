//! The oracle is as strict with an origin that is not ours, and what it says there is true. Each accepted finding was checked by
//! hand against the text that it names; any other fails the test, whichever of the two is wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use tests::foreign::Origin;
use tests::judge;

/// ffmpeg's HLS muxer writes neither attribute into its multivariant playlist (seen with 5.1), and Apple's authoring
/// specification asks for both (sections 9.2 and 9.17).
const OF_FFMPEG: [&str; 2] = ["average-bandwidth-missing", "frame-rate-missing"];

#[test]
fn the_oracle_says_of_ffmpeg_and_nginx_what_is_true() {
    let Some(origin) = Origin::ffmpeg_and_nginx() else {
        return;
    };
    let report = judge::oracle(&origin.url, Duration::from_secs(30));
    #[expect(clippy::print_stdout, reason = "the verdict is kept")]
    {
        println!("ffmpeg + nginx: {report}");
    }
    let mut found: BTreeMap<&str, String> = BTreeMap::new();
    for it in &report.violations {
        found.insert(it.rule, format!("{}: {}", it.url, it.detail));
    }
    assert_eq!(
        found.keys().copied().collect::<Vec<_>>(),
        OF_FFMPEG,
        "{found:?}"
    );
    assert!(report.snapshots > 20 && report.segments > 8, "{report}");
}
