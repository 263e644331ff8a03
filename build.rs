//! Gives the shared library its SONAME. While the version is 0.x each minor version is its own ABI.
//!
//! Under loom and shuttle, which both run models, it also sets `escope_model`. Such a build may leave out one named
//! precaution, to prove that the models notice.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let major = std::env::var("CARGO_PKG_VERSION_MAJOR").expect("cargo sets the package version");
    let minor = std::env::var("CARGO_PKG_VERSION_MINOR").expect("cargo sets the package version");
    let abi = if major == "0" { format!("0.{minor}") } else { major };
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libelixirscope.so.{abi}");

    println!("cargo:rerun-if-env-changed=ESCOPE_SABOTAGE");
    let model = ["CARGO_CFG_ESCOPE_LOOM", "CARGO_CFG_ESCOPE_SHUTTLE"];
    if model.iter().any(|cfg| std::env::var_os(cfg).is_some()) {
        println!("cargo:rustc-cfg=escope_model");
        if let Ok(name) = std::env::var("ESCOPE_SABOTAGE") {
            println!("cargo:rustc-cfg=escope_sabotage=\"{name}\"");
        }
    }
}
