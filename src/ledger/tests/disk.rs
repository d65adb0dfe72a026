//! A disk that forgets what was not synced, and that can be made to fail.

use std::io;
use std::sync::{Arc, Mutex};

use crate::ledger::store::database::{Opener, Settings, Store};
use crate::ledger::store::engine::Engine;
use crate::ledger::{Ledger, Options};

/// What a sector's write does not tear.
const SECTOR_BYTES: usize = 512;

/// A little generator of numbers, so that a failing seed can be run again.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What reading sees.
    seen: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Change>,
    fault: Fault,
    /// Changes and syncs that still come through before the power goes.
    power_left: Option<u64>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Writes and syncs fail.
    Writing,
    /// Syncs fail, though what they should have made durable is.
    SyncingAfterAll,
}

impl Disk {
    pub fn set_fault(&self, fault: Fault) {
        self.0.lock().unwrap().fault = fault;
    }

    /// The power goes after so many more changes.
    pub fn lose_power_after(&self, changes: u64) {
        self.0.lock().unwrap().power_left = Some(changes);
    }

    pub fn has_power(&self) -> bool {
        self.0.lock().unwrap().power_left != Some(0)
    }

    /// The disk as it may be found after the power came back: of what was not synced, anything may be there.
    pub fn after_power_loss(&self, random: &mut Random) -> Disk {
        let state = self.0.lock().unwrap();
        let mut found = state.synced.clone();
        for change in &state.unsynced {
            match change {
                Change::Length(length) if random.below(2) == 0 => found.resize(*length as usize, 0),
                Change::Length(_) => {}
                Change::Write(offset, bytes) => {
                    let torn = random.below(4) == 0;
                    let kept = random.below(2) == 0;
                    for (n, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                        let kept = if torn { random.below(2) == 0 } else { kept };
                        if kept {
                            write_at(&mut found, *offset as usize + n * SECTOR_BYTES, sector);
                        }
                    }
                }
            }
        }
        Disk(Arc::new(Mutex::new(State { seen: found.clone(), synced: found, ..State::default() })))
    }

    pub fn ledger(&self, options: &Options) -> crate::error::Result<Ledger> {
        let disk = self.clone();
        let opener: Opener = Arc::new(move |builder, _| builder.create_with_backend(Backend(disk.clone())));
        let settings = Settings { cache_bytes: options.cache_bytes, verify_bytes_max: options.verify_bytes_max };
        Ledger::over(Engine::File(Box::new(Store::open(opener, settings, None)?)), options)
    }
}

#[derive(Debug)]
struct Backend(Disk);

impl Backend {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.0.0.lock().unwrap();
        spend_power(&mut state)?;
        if state.fault == Fault::Writing {
            return Err(io::Error::other("the disk says no"));
        }
        match &change {
            Change::Write(offset, bytes) => write_at(&mut state.seen, *offset as usize, bytes),
            Change::Length(length) => state.seen.resize(*length as usize, 0),
        }
        state.unsynced.push(change);
        Ok(())
    }
}

fn spend_power(state: &mut State) -> io::Result<()> {
    match &mut state.power_left {
        Some(0) => Err(io::Error::other("there is no power")),
        Some(left) => {
            *left -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

fn write_at(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if image.len() < offset + bytes.len() {
        image.resize(offset + bytes.len(), 0);
    }
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.0.lock().unwrap().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.0.lock().unwrap();
        let from = offset as usize;
        let bytes = state.seen.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(Change::Length(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.0.lock().unwrap();
        spend_power(&mut state)?;
        if state.fault == Fault::Writing {
            return Err(io::Error::other("the disk says no"));
        }
        state.synced = state.seen.clone();
        state.unsynced.clear();
        match state.fault {
            Fault::SyncingAfterAll => Err(io::Error::other("the disk says no, though it did")),
            Fault::None | Fault::Writing => Ok(()),
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset, bytes.to_vec()))
    }
}
