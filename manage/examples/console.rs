//! Prints the reference page of the console.
#![forbid(unsafe_code)]

fn main() {
    print!("{}", weir_manage::console::reference::page());
}
