//! Prints the reference page of the model.
#![forbid(unsafe_code)]

fn main() {
    print!("{}", weir_manage::reference::page());
}
