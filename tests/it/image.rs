//! A file system of its own in an image, for cutting its power: what was flushed to the device stays, the rest is lost.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const MIB: u64 = 192;

pub struct Image {
    image: PathBuf,
    copy: PathBuf,
    mounted: PathBuf,
}

impl Image {
    /// Made in `place`, mounted on `mounted`; `None` where one may not mount.
    pub fn mounted(place: &Path, mounted: &Path) -> Option<Image> {
        let image = Image { image: place.join("image"), copy: place.join("copy"), mounted: mounted.to_owned() };
        std::fs::File::create(&image.image).unwrap().set_len(MIB << 20).unwrap();
        let made = done(Command::new("mkfs.ext4").arg("-q").arg(&image.image));
        (made && image.mount()).then_some(image)
    }

    /// Holds the process still and copies what the device has at that moment. The process does not go on.
    pub fn keep_what_is_flushed(&self, pid: u32) {
        assert!(done(Command::new("kill").args(["-STOP", &pid.to_string()])));
        while !stands_still(pid) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(done(Command::new("cp").arg("--sparse=always").arg(&self.image).arg(&self.copy)));
    }

    /// Puts the copy in the place of the image. Whoever has a file of the old one open goes on in a world that nobody
    /// looks at any more.
    pub fn lose_the_rest(&self) {
        self.unmount();
        std::fs::rename(&self.copy, &self.image).unwrap();
        assert!(self.mount(), "the copy cannot be mounted");
    }

    fn mount(&self) -> bool {
        done(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mounted))
    }

    fn unmount(&self) {
        let _ = done(Command::new("umount").arg("-l").arg(&self.mounted));
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.unmount();
    }
}

/// Whether no thread of the process runs or is inside a call any more.
fn stands_still(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    threads.into_iter().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which is in parentheses.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}

fn done(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|end| end.success())
}
