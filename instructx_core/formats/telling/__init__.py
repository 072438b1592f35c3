"""What a file is, in words: inspect and verify. Reads headers only, unless it is asked for more."""
