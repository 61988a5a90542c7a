"""The pure core: records, rules of transition, contracts. No I/O, no clock, no randomness."""
