"""Data sets as experiments ask for them: found or fetched, read, and split as published."""
