"""Everything between a file and a file: request, look, an edit of one piece or in windows, jobs, report."""
