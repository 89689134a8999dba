//! Rebuilds the program when a file of the embedded default model or of the
//! samples appears or goes; changes inside files are tracked by the compiler.

fn main() {
    println!("cargo:rerun-if-changed=default_model");
    println!("cargo:rerun-if-changed=../examples/data");
}
