//! wharf-build
