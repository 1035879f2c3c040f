//! The whole box on the rig.

use rig::Rig;
use rig::card::Card;

#[test]
fn cold_start_to_on_air_with_only_buttons() {
    let mut rig = Rig::boot();
    rig.plug(&Card::stick(&[(640, 360, 10, 15)]));
    std::thread::sleep(std::time::Duration::from_secs(2));
    println!("{}", rig.run("sh", &["-c", "ls -l /dev/video* /dev/snd; cat /proc/asound/cards; dmesg | tail -30; v4l2-ctl --list-formats-ext; arecord -l"]));
    rig.start("[video]\nwidth = 640\nheight = 360\nfps = 15\nbitrate_kbps = 600\n[capture]\nsource = \"device\"\nvideo_device = \"/dev/video0\"\naudio_device = \"hw:0\"\n");
    rig.wait_for_signal("ok");
    rig.tap_go_live();
    rig.wait_for_state("live");
    println!("{}", rig.status());
}
