//! Serves the API of a simulated router on this machine, to try clients with.
#![forbid(unsafe_code)]

#[path = "../tests/simulated/mod.rs"]
mod simulated;

fn main() {
    let router = std::sync::Arc::new(simulated::Simulated::new(&[simulated::TOKEN]));
    println!("console's token: {}", router.grant());
    println!(
        "curl -H 'Authorization: Bearer {}' http://{}/api/v1/status",
        simulated::TOKEN,
        simulated::serve(router)
    );
    loop {
        std::thread::park();
    }
}
