"""Force evaluation inside molecular dynamics: neighbor lists, folded networks, tabulated radii."""
