//! The whole box on the rig.

use rig::Rig;

#[test]
fn cold_start_to_on_air_with_only_buttons() {
    let mut rig = Rig::boot();
    rig.start("");
    rig.tap_go_live();
    rig.wait_for_state("live");
}
