//! Ends as its command line says: `end=off`, `end=reboot` or `end=panic`. The lab looks at what the hypervisor makes of it.

use weir_machine::boot::Boot;
use weir_machine::{power, println};

pub(crate) fn main(boot: &'static Boot) -> ! {
    let wish = boot.command_line.split_ascii_whitespace().find_map(|word| word.strip_prefix("end="));
    println!("on {}, to end by {}", boot.platform, wish.unwrap_or("nothing"));
    match wish {
        Some("off") => power::off(),
        Some("reboot") => power::reboot(),
        Some("panic") => panic!("as asked"),
        _ => panic!("end= is off, reboot or panic"),
    }
}
