"""What people read of an evaluation: tables in the paper's layout, plots, one page of HTML, the same as Markdown."""
