//! wharf-sys
