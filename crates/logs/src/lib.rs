//! wharf-logs
