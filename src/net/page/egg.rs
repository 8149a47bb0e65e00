//! The picture of a person who has none: an egg, drawn from the public key. The same key is the same egg everywhere,
//! and nothing is kept of it.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::protocol::PublicKey;

const SHELLS: [&str; 12] = [
    "#b9d6cf", "#d8d2b8", "#c9d5e3", "#e2cdbb", "#bcc9ad", "#d9c3cc", "#cfcfc8", "#a9c7d6", "#e5dcc3",
    "#b7c4bf", "#cdbfa6", "#dfe3dc",
];
const SPOTS: [&str; 6] = ["#4a3b34", "#6b4a3a", "#3d4a4f", "#70564a", "#51435a", "#2f4b46"];
const OUTLINE: &str =
    "M20 2.5C27.6 2.5 34 14 34 23.2 34 32 27.8 37.5 20 37.5S6 32 6 23.2C6 14 12.4 2.5 20 2.5Z";

/// Bytes without an end that a key decides.
struct Dice {
    key: [u8; 32],
    block: [u8; 32],
    drawn: usize,
}

impl Dice {
    fn of(key: PublicKey) -> Self {
        Self { key: key.0, block: [0; 32], drawn: 0 }
    }

    fn byte(&mut self) -> u8 {
        let (nth, at) = (self.drawn / 32, self.drawn % 32);
        if at == 0 {
            let block = Sha256::new().chain_update(self.key).chain_update([(nth % 256) as u8]).finalize();
            self.block.copy_from_slice(&block);
        }
        self.drawn += 1;
        self.block[at]
    }

    fn between(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * f64::from(self.byte()) / 255.0
    }

    fn dots(&mut self, svg: &mut String, number: usize, x: [f64; 2], y: [f64; 2], radius: [f64; 2]) {
        for _ in 0..number {
            let (x, y) = (self.between(x[0], x[1]), self.between(y[0], y[1]));
            let radius = self.between(radius[0], radius[1]);
            let _ = write!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius:.1}"/>"#);
        }
    }

    fn blotch(&mut self, svg: &mut String) {
        let (x, y) = (self.between(7.0, 33.0), self.between(6.0, 36.0));
        let (wide, high) = (self.between(1.4, 3.6), self.between(1.0, 2.6));
        let turn = self.between(0.0, 180.0);
        let _ = write!(
            svg,
            r#"<ellipse cx="{x:.1}" cy="{y:.1}" rx="{wide:.1}" ry="{high:.1}" transform="rotate({turn:.0} 20 20)"/>"#
        );
    }

    fn scrawl(&mut self, svg: &mut String, spot: &str) {
        let (x, y) = (self.between(6.0, 30.0), self.between(8.0, 34.0));
        let bends = [[-3.0, 5.0], [-4.0, 4.0], [2.0, 7.0], [-3.0, 3.0], [-2.0, 5.0], [-3.0, 3.0]];
        let [a, b, c, d, e, f] = bends.map(|[from, to]| self.between(from, to));
        let width = self.between(0.7, 1.4);
        let _ = write!(
            svg,
            r#"<path d="M{x:.1} {y:.1}q{a:.1} {b:.1} {c:.1} {d:.1}t{e:.1} {f:.1}" fill="none" stroke="{spot}" stroke-width="{width:.1}" stroke-linecap="round"/>"#
        );
    }
}

/// The egg of a key, as SVG.
pub fn egg(key: PublicKey) -> String {
    let [shell, spot, pattern, tilt, ..] = key.0.map(usize::from);
    let (shell, spot) = (SHELLS[shell % SHELLS.len()], SPOTS[spot % SPOTS.len()]);
    let tilt = (tilt % 41) as i32 - 20;
    let (mut dice, mut marks) = (Dice::of(key), String::with_capacity(2_048));
    match pattern % 4 {
        0 => dice.dots(&mut marks, 34, [6.0, 34.0], [4.0, 37.0], [0.4, 1.3]),
        1 => {
            (0..7).for_each(|_| dice.blotch(&mut marks));
            dice.dots(&mut marks, 12, [6.0, 34.0], [4.0, 37.0], [0.4, 0.9]);
        }
        2 => {
            dice.dots(&mut marks, 30, [5.0, 35.0], [25.0, 31.5], [0.6, 1.8]);
            dice.dots(&mut marks, 8, [8.0, 32.0], [6.0, 24.0], [0.4, 0.8]);
        }
        _ => {
            (0..6).for_each(|_| dice.scrawl(&mut marks, spot));
            dice.dots(&mut marks, 8, [6.0, 34.0], [4.0, 37.0], [0.4, 0.9]);
        }
    }
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 40"><clipPath id="c"><path d="{OUTLINE}"/></clipPath><g transform="rotate({tilt} 20 21)"><path d="{OUTLINE}" fill="{shell}"/><g clip-path="url(#c)" fill="{spot}" fill-opacity=".72" stroke-opacity=".72">{marks}</g><path d="{OUTLINE}" fill="none" stroke="#1a1c22" stroke-opacity=".22"/></g></svg>"##
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_egg_is_the_same_each_time_and_another_for_another_key() {
        let keys = (0..40_u8).map(|byte| PublicKey([byte; 32]));
        let eggs: Vec<String> = keys.clone().map(egg).collect();
        assert_eq!(eggs, keys.map(egg).collect::<Vec<_>>());
        let all: std::collections::BTreeSet<_> = eggs.iter().collect();
        assert_eq!(all.len(), eggs.len());
    }
}
