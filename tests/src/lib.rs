//! The rules of the house as tests (`tidy/`), the browser tests (`browser/`), and the benchmarks (`src/bench/`).
