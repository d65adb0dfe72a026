//! What the fuzz targets feed, fed from a seed: the same entries, a moment instead of hours.

use std::path::Path;

use skillhook::model::provider::fuzz::ENTRIES;
use skillhook::model::provider::sample;

use crate::gateway::catalogue;

/// Inputs for each entry.
const INPUTS: usize = 150;
const SEED: u64 = 0x5eed_0f5a_3017_1e55;

/// Pieces that formats and schemes look for.
const PIECES: [&str; 28] = [
    "sha256=",
    "sha1=",
    "v0=",
    "v1,",
    "v1a,",
    "t=1,v1=",
    "Bearer ",
    "Basic ",
    "eyJhbGciOiJub25lIn0",
    ".",
    "kid",
    "\n\n",
    "\u{0}",
    "{body:/x}",
    "{secret:api_token}",
    "|or:",
    "&payload=",
    "%7b",
    "[[[[",
    "{\"a\":",
    "<!--",
    "```",
    "&#x0;",
    "<@U1>",
    "\u{202e}",
    "\u{1f600}",
    "boundary=x",
    "1767225600",
];

/// A generator that says the same for the same seed (xorshift64*).
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

/// Deliveries as they come, definitions, and nothing.
fn beginnings() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = vec![Vec::new()];
    for sample in sample::all() {
        let headers: String = sample.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        all.push(format!("{headers}\n{}", sample.text()).into_bytes());
    }
    all.extend(catalogue().iter().map(|definition| definition.written().to_string().into_bytes()));
    all
}

fn mutated(random: &mut Seeded, beginnings: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = beginnings[random.below(beginnings.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.next() as u8),
            2 => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].bytes())),
            3 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            4 => {
                let end = (at + random.below(40)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let other = &beginnings[random.below(beginnings.len())];
                let from = random.below(other.len() + 1);
                let end = (from + random.below(60)).min(other.len());
                bytes.splice(at..at, other[from..end].iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn every_entry_keeps_its_promise_for_seeded_inputs() {
    let beginnings = beginnings();
    let mut broken = Vec::new();
    for (name, entry) in ENTRIES {
        let mut random = Seeded(SEED);
        for n in 0..INPUTS {
            let input = mutated(&mut random, &beginnings);
            if let Err(why) = entry(catalogue(), &input) {
                broken.push(format!("{name}, input {n}: {why}\n{}", String::from_utf8_lossy(&input)));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}

#[test]
fn every_entry_has_a_target_and_every_target_an_entry() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let targets = std::fs::read_dir(fuzz.join("fuzz_targets")).unwrap().map(|entry| entry.unwrap().path());
    let mut targets: Vec<String> = targets.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    targets.sort();
    let names: Vec<&str> = ENTRIES.iter().map(|(name, _)| *name).collect();
    assert_eq!(targets, names);
    for name in names {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        let target = std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("feed(\"{name}\", data)")), "{target}");
    }
}
