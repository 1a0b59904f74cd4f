"""Data sets: readers, statistics, and the way from structures to padded batches."""
