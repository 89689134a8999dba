//! The parts of the volume that the guide's report has a line for.
//!
//! In comes where a directory lies, out comes its part. Pure.

/// One part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `ml_models`.
    MlModels,
    /// `ml_cache`.
    MlCache,
    /// `scalers`.
    Scalers,
    /// Directly in `stock_data`.
    StockData,
    /// `stock_data/cache`; the report adds it to `stock_data`.
    StockCache,
    /// The other directories of `stock_data`; added, too.
    StockInner,
    /// `logs`.
    Logs,
    /// `config`.
    Config,
    /// `backups`.
    Backups,
    /// `monitoring`.
    Monitoring,
    /// Everything else, our state among it.
    Other,
}

/// All of them, in the order of the enum.
pub const PARTS: [Part; 11] = [
    Part::MlModels,
    Part::MlCache,
    Part::Scalers,
    Part::StockData,
    Part::StockCache,
    Part::StockInner,
    Part::Logs,
    Part::Config,
    Part::Backups,
    Part::Monitoring,
    Part::Other,
];

/// The parts with a line of their own in the report, in the guide's order.
pub const SHOWN: [(Part, &str); 8] = [
    (Part::MlModels, "ml_models"),
    (Part::MlCache, "ml_cache"),
    (Part::Scalers, "scalers"),
    (Part::StockData, "stock_data"),
    (Part::Logs, "logs"),
    (Part::Config, "config"),
    (Part::Backups, "backups"),
    (Part::Monitoring, "monitoring"),
];

/// The part of a directory, given the one it lies in.
pub fn part_of(parent: Part, name: &[u8], is_in_root: bool) -> Part {
    if is_in_root {
        let named = SHOWN.iter().find(|(_, own)| own.as_bytes() == name);
        return named.map_or(Part::Other, |(part, _)| *part);
    }
    match parent {
        Part::StockData if name == b"cache" => Part::StockCache,
        Part::StockData => Part::StockInner,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_of_stock_data_is_told_from_a_symbol_of_that_name() {
        let stock = part_of(Part::Other, b"stock_data", true);
        assert_eq!(part_of(stock, b"cache", false), Part::StockCache);
        let historical = part_of(stock, b"historical", false);
        assert_eq!(part_of(historical, b"cache", false), Part::StockInner);
        assert_eq!(part_of(Part::Other, b"logs", false), Part::Other);
    }

    #[test]
    fn parts_are_numbered_in_their_order() {
        for (index, part) in PARTS.iter().enumerate() {
            assert_eq!(*part as usize, index);
        }
    }
}
