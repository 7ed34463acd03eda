//! wharf-shim
fn main() {}
