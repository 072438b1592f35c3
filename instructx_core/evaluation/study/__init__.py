"""The user study of the paper's A.3: a blind form that people fill in anywhere, and what their answers say."""
