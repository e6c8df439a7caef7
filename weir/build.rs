//! Links the image, and only the image, as a freestanding program at a fixed address.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../images/weir.ld");
    if std::env::var_os("CARGO_FEATURE_IMAGE").is_none() {
        return;
    }
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo names the package's folder");
    let script = format!("-Wl,-T{root}/../images/weir.ld");
    let page = "-Wl,--build-id=none,-z,max-page-size=4096,-z,norelro";
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie", page, &script] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
