//! Whatever the bytes are, the answer is a configuration or an error with a place, never a panic.

use super::*;

/// A small generator (xorshift64), so that every run sees the same noise.
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[test]
fn no_damage_to_a_file_makes_it_panic() {
    const PIECES: [&str; 16] = [
        "[[service]]",
        "\"",
        "[",
        "]",
        "=",
        "{",
        "}",
        "${",
        "\n",
        "\0",
        "ä",
        "-1",
        "9e999",
        "\"\"\"",
        "://",
        "@",
    ];
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut accepted = 0;
    for _ in 0..3000 {
        let mut bytes = FULL.as_bytes().to_vec();
        for _ in 0..=noise.below(3) {
            let (at, length) = (noise.below(bytes.len()), noise.below(40));
            let end = (at + length).min(bytes.len());
            match noise.below(4) {
                0 => bytes[at] = noise.below(256) as u8,
                1 => drop(bytes.drain(at..end)),
                2 => drop(bytes.splice(at..at, PIECES[noise.below(PIECES.len())].bytes())),
                _ => {
                    let copy = bytes[at..end].to_vec();
                    let to = noise.below(bytes.len());
                    drop(bytes.splice(to..to, copy));
                }
            }
        }
        match parse(&String::from_utf8_lossy(&bytes)) {
            Ok(_) => accepted += 1,
            Err(errors) => {
                assert!(errors.iter().all(|error| error.place.is_some()), "{errors}");
                assert!(!errors.to_string().contains("s3cret"), "{errors}");
            }
        }
    }
    assert!((30..2970).contains(&accepted), "the noise is of little use: {accepted} of 3000 were valid");
}

#[test]
fn deep_nesting_is_an_error() {
    for piece in ["[", "{a=", "a.", "[a."] {
        assert!(parse(&format!("x = {}", piece.repeat(100_000))).is_err());
    }
}

#[test]
fn a_long_chain_of_services_is_no_trouble() {
    let service = |index: usize| {
        format!(
            "[[service]]\nname = \"s{index}\"\nunit = \"s{index}.service\"\ndepends_on = [\"s{}\"]\n",
            index + 1
        )
    };
    let mut text: String = (0..500).map(service).collect();
    text.push_str("[[service]]\nname = \"s500\"\nunit = \"s500.service\"\n");
    assert_eq!(parse(&text).unwrap().services.len(), 501);
}
