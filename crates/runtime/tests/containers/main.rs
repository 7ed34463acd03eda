//! Containers, really made: as root, with busybox, on this machine's kernel. Run without the test harness, which has
//! threads.

fn main() {}
