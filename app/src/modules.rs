//! The boot modules, each a configuration: the first is the one to begin with, any can be put in force later.
//!
//! Read at boot and by management, in tasks. The loader's bytes stay where they are, read-only.

use crate::config::Config;
use alloc::format;
use alloc::string::String;
use core::fmt;

/// Characters of a module's first line that a list shows.
const SHOWN: usize = 60;

/// What the loader brought. `None`: it lies where nothing can be read.
#[derive(Clone, Copy, Debug)]
pub struct Modules(&'static [Option<&'static [u8]>]);

/// What people call module `number`, from 1.
pub fn place(number: usize) -> String {
    format!("boot module {number}")
}

impl Modules {
    /// In the loader's order.
    pub fn new(list: &'static [Option<&'static [u8]>]) -> Self {
        Self(list)
    }

    /// Whether the loader brought none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The configuration of module `number`, from 1; errors call it `boot module 1`. `free` bytes of memory are to be had.
    ///
    /// # Errors
    /// What is wrong with it, as text for the console.
    pub fn config(&self, number: usize, free: u64) -> Result<Config, String> {
        match number.checked_sub(1).and_then(|at| self.0.get(at)) {
            None => Err(format!("there is no module {number}; the loader brought {}\n", self.0.len())),
            Some(module) => read(*module, &place(number), free),
        }
    }
}

fn read(module: Option<&[u8]>, name: &str, free: u64) -> Result<Config, String> {
    let Some(text) = module else {
        return Err(format!("{name}: unreadable: its place in the loader's list is no memory below 4 GiB\n"));
    };
    Config::read(text, name, free)
}

/// One line each: number, size, and the first line of it that is not empty.
impl fmt::Display for Modules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the loader brought no modules\n");
        }
        for (number, module) in (1..).zip(self.0) {
            match module {
                None => writeln!(f, "module {number}: unreadable")?,
                Some(text) => {
                    let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
                    let first = lines.filter(|line| !line.is_empty()).take(1).flatten();
                    // What a terminal would obey is not shown.
                    let shown: String = first
                        .take(SHOWN)
                        .map(|&byte| if matches!(byte, b' '..=b'~') { byte.into() } else { '?' })
                        .collect();
                    writeln!(f, "module {number}: {} bytes: {shown}", text.len())?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::appetite;
    use alloc::string::ToString;

    const GOOD: &[u8] = b"\n  # the night's configuration\n[interface.a]\nmatch = { port = 0 }\n";
    const BAD: &[u8] = b"[interface.a]\nmatch = { port = 0 }\nmtu = 1\n";

    const FREE: u64 = 1 << 20;

    fn modules(list: &[Option<&'static [u8]>]) -> Modules {
        Modules::new(list.to_vec().leak())
    }

    #[test]
    fn any_module_can_be_read_by_its_number() {
        let modules = modules(&[Some(BAD), Some(GOOD)]);
        assert_eq!(modules.config(2, FREE).unwrap().interfaces[0].name, "a");
        let wrong = modules.config(1, FREE).unwrap_err();
        assert!(wrong.starts_with("boot module 1:3:7: error: interface.a.mtu"), "{wrong}");
    }

    #[test]
    fn says_why_there_is_nothing_to_read() {
        let modules = modules(&[Some(GOOD), None]);
        for (number, part) in
            [(0, "no module 0; the loader brought 2"), (3, "no module 3"), (2, "boot module 2: unreadable")]
        {
            let wrong = modules.config(number, FREE).unwrap_err();
            assert!(wrong.contains(part) && wrong.ends_with('\n'), "{wrong}");
        }
        let wrong = modules.config(1, appetite(GOOD) - 1).unwrap_err();
        assert!(wrong.starts_with("boot module 1: 66 bytes take up to 1 MiB"), "{wrong}");
    }

    #[test]
    fn lists_what_the_loader_brought() {
        let modules = modules(&[Some(GOOD), None, Some(b"\x1b[2J\xff"), Some(b"")]);
        let expected = "\
module 1: 66 bytes: # the night's configuration
module 2: unreadable
module 3: 5 bytes: ?[2J?
module 4: 0 bytes: \n";
        assert_eq!(modules.to_string(), expected);
    }
}
