"""Public files fetched into a folder of this machine, once, whole, and by one process."""
