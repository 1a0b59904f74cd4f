"""One reader for each public format: a file in, a sequence of structures out."""
