"""The network as a whole: its description, its presets, its parameters, energies and forces."""
