//! Which machine code may run here? Asked once, when a query or an index is prepared.

/// An instruction set that this build knows and this machine has: holding one is the proof that
/// functions compiled for its features may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::index) struct Isa(Kind);

/// The instruction sets that this build knows, each with what the loops need of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::index) enum Kind {
    Portable,
    /// `avx2` and `fma`.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// `avx512f`, and what [`Kind::Avx2`] has.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// `avx512bw` and `avx512vnni`, and what [`Kind::Avx512`] has.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Isa {
    /// What every machine has.
    pub(in crate::index) const PORTABLE: Isa = Isa(Kind::Portable);

    /// The fastest that this machine has. The standard library remembers what it saw.
    pub(in crate::index) fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 && is_x86_feature_detected!("avx512f") {
                let vnni =
                    is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni");
                return Isa(if vnni { Kind::Avx512Vnni } else { Kind::Avx512 });
            }
            if avx2 {
                return Isa(Kind::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            return Isa(Kind::Neon);
        }
        Isa::PORTABLE
    }

    /// All that this machine has, the portable one first.
    #[cfg(test)]
    pub(in crate::index) fn all() -> Vec<Isa> {
        #[allow(unused_mut)]
        let mut all = vec![Isa::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        all.extend(match Isa::detect().0 {
            Kind::Portable => vec![],
            Kind::Avx2 => vec![Isa(Kind::Avx2)],
            Kind::Avx512 => vec![Isa(Kind::Avx2), Isa(Kind::Avx512)],
            Kind::Avx512Vnni => [Kind::Avx2, Kind::Avx512, Kind::Avx512Vnni].map(Isa).to_vec(),
        });
        #[cfg(target_arch = "aarch64")]
        all.push(Isa::detect());
        all
    }

    /// What to match on.
    pub(in crate::index) fn kind(self) -> Kind {
        self.0
    }
}
