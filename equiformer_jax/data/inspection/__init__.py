"""What a scientist wants to see of a data set before training: its shape, and what is wrong."""
