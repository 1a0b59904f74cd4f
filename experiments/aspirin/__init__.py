"""How the embedded aspirin data set is made; the program is `experiments.generate_aspirin`."""
