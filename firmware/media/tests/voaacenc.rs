//! The other AAC encoder delays by another number of samples. A process of its own, because the registry is the process's.

mod flash_and_beep;

use flash_and_beep::{HEAD, Session};
use media::signal::Signal;
use stream::status::Signal::Ok;

#[test]
fn the_second_choice_of_aac_encoder_is_in_sync() {
    gst::init().unwrap();
    let registry = gst::Registry::get();
    let first_choice = registry.lookup_feature("avenc_aac");
    registry.remove_feature(&first_choice.expect("run `make deps-test`"));
    assert!(gst::ElementFactory::find("avenc_aac").is_none());
    let mut session = Session::start(Signal::default(), 0);
    session.programme("voaacenc");
    session.play(4.0);
    session.scenario("device failed");
    session.signal.set(|signal| signal.failures += 1);
    session.play(4.0);
    let report = session.finish();
    for scenario in &report.scenarios {
        let table = format!("{HEAD}\n{scenario}\n{:.2?}", scenario.offsets);
        assert!(scenario.offsets.len() >= 2, "{table}");
        assert!(scenario.worst().abs() <= 5.0, "{table}");
    }
    assert_eq!(report.signals, [Ok]);
}
