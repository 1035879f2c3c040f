//! First process of the rig's kernel.

fn main() {
    // A panic of the first process is a panic of the kernel, and the test sees the line end.
    rig::guest::main();
}
