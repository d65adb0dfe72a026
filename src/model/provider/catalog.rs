//! The definitions that are compiled in.

use super::definition::{Catalogue, Definition};
use crate::model::diagnostic::Diagnostic;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        /// File names and contents.
        const FILES: &[(&str, &str)] = &[$(
            (concat!("catalog/", $name, ".yaml"), include_str!(concat!("catalog/", $name, ".yaml"))),
        )*];
    };
}

files!["custom", "github", "gitlab", "standard_webhooks"];

/// Parses all of them. An error is a fault of this program, which its tests exclude.
pub fn builtin() -> Result<Catalogue, Vec<Diagnostic>> {
    let parsed = FILES.iter().map(|(path, yaml)| Definition::parse(path, yaml));
    Ok(Catalogue::of(parsed.collect::<Result<Vec<_>, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_is_sound_and_named_as_its_file() {
        let catalogue = builtin().unwrap();
        assert_eq!(catalogue.names().count(), FILES.len());
        for (path, yaml) in FILES {
            let definition = Definition::parse(path, yaml).unwrap();
            assert_eq!(format!("catalog/{}.yaml", definition.name()), *path);
            assert!(definition.lint().is_empty(), "{:?}", definition.lint());
        }
    }
}
