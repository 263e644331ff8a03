//! Connection pool.
