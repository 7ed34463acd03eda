//! wharf-dockerfile
