//! Names for containers that were given none: `adjective_surname`, as Docker's.

use crate::random;
use wharf_spec::ContainerName;

const ADJECTIVES: [&str; 96] = [
    "agile", "amber", "ample", "apt", "astute", "avid", "balmy", "blithe", "bold", "brave", "breezy",
    "bright", "brisk", "calm", "candid", "cheery", "civil", "clever", "comic", "copper", "cosmic", "crisp",
    "curious", "dapper", "daring", "deft", "dreamy", "eager", "earnest", "elated", "fabled", "fair", "fancy",
    "fearless", "festive", "fluent", "fond", "frank", "gallant", "genial", "gentle", "gifted", "glad",
    "golden", "graceful", "hardy", "hasty", "hearty", "honest", "humble", "jaunty", "jolly", "jovial",
    "keen", "kindly", "lively", "loyal", "lucid", "lucky", "mellow", "merry", "mighty", "modest", "musing",
    "nimble", "noble", "patient", "placid", "plucky", "polite", "prudent", "quaint", "quick", "quiet",
    "radiant", "rapid", "rustic", "sage", "serene", "sharp", "silent", "silver", "sober", "spry", "stellar",
    "sturdy", "sunny", "supple", "swift", "tidy", "tranquil", "upbeat", "vivid", "warm", "witty", "zesty",
];

const SURNAMES: [&str; 96] = [
    "abel",
    "agnesi",
    "ampere",
    "apgar",
    "atanasoff",
    "avogadro",
    "backus",
    "banach",
    "bernoulli",
    "bessel",
    "bohr",
    "boltzmann",
    "boole",
    "brahe",
    "cantor",
    "carnot",
    "cauchy",
    "cavendish",
    "celsius",
    "chadwick",
    "cori",
    "coulomb",
    "curie",
    "dalton",
    "darwin",
    "dedekind",
    "descartes",
    "dirac",
    "doppler",
    "erdos",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "fourier",
    "franklin",
    "fresnel",
    "galileo",
    "galois",
    "gauss",
    "germain",
    "godel",
    "halley",
    "hamilton",
    "hertz",
    "hilbert",
    "hopper",
    "hubble",
    "huygens",
    "jacobi",
    "joule",
    "kelvin",
    "kepler",
    "kirchhoff",
    "lagrange",
    "laplace",
    "lebesgue",
    "legendre",
    "leibniz",
    "linnaeus",
    "lorentz",
    "lovelace",
    "mach",
    "markov",
    "maxwell",
    "meitner",
    "mendel",
    "napier",
    "newton",
    "noether",
    "ohm",
    "papin",
    "pascal",
    "pasteur",
    "pauli",
    "peano",
    "planck",
    "poincare",
    "poisson",
    "raman",
    "riemann",
    "ritchie",
    "rontgen",
    "rubin",
    "shannon",
    "somerville",
    "stokes",
    "tesla",
    "thales",
    "torricelli",
    "turing",
    "volta",
    "watt",
    "weyl",
];

/// A name made up. The first tries have no number; from the third on a digit makes clashes rare
/// (source: moby `daemon/internal/namesgenerator`, which does so after the first).
pub(crate) fn made_up(attempt: usize) -> ContainerName {
    let adjective = ADJECTIVES[random::below(ADJECTIVES.len())];
    let surname = SURNAMES[random::below(SURNAMES.len())];
    let text = match attempt {
        0..3 => format!("{adjective}_{surname}"),
        _ => format!("{adjective}_{surname}{}", random::below(10)),
    };
    text.parse().expect("the words are of letters only")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn all_names_are_valid_and_differ() {
        for words in [&ADJECTIVES[..], &SURNAMES[..]] {
            assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len());
            for word in words {
                assert!(word.bytes().all(|b| b.is_ascii_lowercase()), "{word}");
                assert!(format!("x_{word}").parse::<ContainerName>().is_ok());
            }
        }
        let name = made_up(5).to_string();
        assert!(name.ends_with(|c: char| c.is_ascii_digit()), "{name}");
    }
}
