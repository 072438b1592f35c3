"""Pages that need no server and no network: one HTML file with its styles, scripts, pictures and clips inside."""
