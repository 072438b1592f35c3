"""The stages in their order, one file each (paper A.2, Fig. 10)."""
