//! The rig: the real `podium` on the kernel's own drivers, with hardware that a test plugs, presses, reads and breaks.
//!
//! A [`Rig`] is a kernel that runs as an ordinary process (user-mode Linux) and sees the host's files read-only. Its first
//! process, `rig-guest` ([`guest`]), holds the hardware: a capture stick behind USB/IP ([`card`]), so an eMMC ([`emmc`]), a USB-I²C bridge
//! with a display ([`bridge`], [`oled`]) and a simulated GPIO chip ([`gpio`]). Test and guest talk in lines of JSON ([`protocol`]) over what the
//! kernel takes for a serial line. See `README.md` beside this crate.

pub mod bridge;
pub mod card;
pub mod emmc;
pub mod gpio;
pub mod guest;
mod host;
pub mod oled;
pub mod protocol;
mod published;
mod reading;
mod usbip;

pub use host::{Disk, Hdmi, Machine, Rig};
pub use published::{Picture, Published};
