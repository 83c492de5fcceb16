"""Search: texts of any number as vectors and words in a store, asked by meaning, by words, or by both."""
