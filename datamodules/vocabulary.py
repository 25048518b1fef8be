"""Words that corpora, batches and heads share, in the order of their indices."""

DIMENSIONS = ("activation", "valence", "dominance")
GENDERS = ("female", "male")
