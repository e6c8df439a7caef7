//! Screenshots, small enough for a repository: a PNG with a palette.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};

/// The picture in 256 colours; the others become the nearest of these.
pub(crate) fn shrink(png: &[u8]) -> Result<Vec<u8>> {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(png));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().context("reading the screenshot")?;
    let mut pixels = vec![0; reader.output_buffer_size().context("its size")?];
    let info = reader.next_frame(&mut pixels).context("reading the screenshot")?;
    let samples = info.color_type.samples();
    ensure!(samples >= 3, "the screenshot has no colours");
    let colours: Vec<[u8; 3]> = pixels[..info.buffer_size()]
        .chunks_exact(samples)
        .map(|pixel| [pixel[0], pixel[1], pixel[2]])
        .collect();

    let mut counts: HashMap<[u8; 3], usize> = HashMap::new();
    colours.iter().for_each(|&colour| *counts.entry(colour).or_default() += 1);
    let mut order: Vec<([u8; 3], usize)> = counts.into_iter().collect();
    order.sort_unstable_by_key(|&(colour, count)| (std::cmp::Reverse(count), colour));
    let palette = palette(&order);
    let indices: HashMap<[u8; 3], u8> =
        order.iter().map(|&(colour, _)| (colour, nearest(&palette, colour))).collect();

    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, info.width, info.height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    // Rows of indices have no slopes to predict.
    encoder.set_filter(png::Filter::NoFilter);
    encoder.set_palette(palette.concat());
    let mut writer = encoder.write_header()?;
    let image: Vec<u8> = colours.iter().map(|colour| indices[colour]).collect();
    writer.write_image_data(&image)?;
    writer.finish()?;
    Ok(out)
}

/// The commonest colours, and then always the one that would be missed most.
fn palette(order: &[([u8; 3], usize)]) -> Vec<[u8; 3]> {
    let mut palette: Vec<[u8; 3]> = order.iter().take(32).map(|&(colour, _)| colour).collect();
    let far =
        |palette: &[[u8; 3]], colour| palette.iter().map(|other| distance(colour, *other)).min().unwrap_or(0);
    let mut missing: Vec<u64> = order.iter().map(|&(colour, _)| u64::from(far(&palette, colour))).collect();
    while palette.len() < 256 {
        let missed = missing.iter().zip(order).map(|(&far, &(_, count))| far * count as u64);
        let Some((place, 1..)) = missed.enumerate().max_by_key(|&(_, weight)| weight) else { break };
        let added = order[place].0;
        palette.push(added);
        for (far, &(colour, _)) in missing.iter_mut().zip(order) {
            *far = u64::from(distance(colour, added)).min(*far);
        }
    }
    palette
}

fn distance(a: [u8; 3], b: [u8; 3]) -> u32 {
    a.iter().zip(b).map(|(&a, b)| u32::from(a.abs_diff(b)).pow(2)).sum()
}

fn nearest(palette: &[[u8; 3]], colour: [u8; 3]) -> u8 {
    let best = palette.iter().enumerate().min_by_key(|(_, other)| distance(colour, **other));
    best.map_or(0, |(index, _)| index as u8)
}
