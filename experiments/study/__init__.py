"""Studies: systems over the same folds and seeds, their records, statistics and reports."""
