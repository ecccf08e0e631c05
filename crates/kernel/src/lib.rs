//! Vocabulary: ids, money, time, faults, life-cycle tables. Pure.
