//! Every atom that a NIF returns, made once at load.

rustler::atoms! {
    ok,
    error,
}
