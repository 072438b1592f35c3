"""Making a benchmark (A.1): clips -> proposals of a model -> a page on which people choose -> a manifest."""
