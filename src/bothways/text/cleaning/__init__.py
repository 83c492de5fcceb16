"""From messy documents to a clean corpus: tidied, filtered, without copies, without what a model is judged on."""
