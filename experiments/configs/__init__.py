"""One configuration file for each kind of experiment."""
