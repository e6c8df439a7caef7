//! Compresses the files of the web page: the image holds them, and sends them, as gzip makes them, without what only their
//! authors need. The same files give the same bytes everywhere, as the header has neither time nor name.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=web");
    let folder = PathBuf::from(env::var("OUT_DIR")?);
    for entry in fs::read_dir("web")? {
        let path = entry?.path();
        let compressed = compress(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let name = path.file_name().ok_or("a file without a name")?;
        fs::write(folder.join(name).with_added_extension("gz"), compressed)?;
    }
    Ok(())
}

fn compress(path: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let text = fs::read_to_string(path)?;
    for (line, number) in text.lines().map(str::trim_start).zip(1..) {
        if line.is_empty() || line.starts_with("//") || line.starts_with("/*") && line.ends_with("*/") {
            continue;
        }
        if line.matches('`').count() % 2 == 1 {
            return Err(format!(
                "line {number}: a template goes on in the next line, and would lose its indentation"
            )
            .into());
        }
        encoder.write_all(format!("{line}\n").as_bytes())?;
    }
    Ok(encoder.finish()?)
}
