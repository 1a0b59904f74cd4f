"""A trained potential in use."""
