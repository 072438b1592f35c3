"""What a file is, in words: inspect, verify, load reports."""
