//! wharfd
fn main() {}
