"""Compiles training steps for TPUs that are not here, and reads what the programs cost."""
