//! NIF library.
