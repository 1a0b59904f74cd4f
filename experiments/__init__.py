"""Programs: they parse flags and call the package."""
