"""What can be measured of an output without a judge: what was kept, how steady it is, how near a reference it is."""
