//! wharf-archive
