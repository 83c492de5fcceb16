"""From files to batches: readers, tokenizers, corpora. No torch in here."""
