//! Token-bucket rate limiter.
