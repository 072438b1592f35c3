"""What films, stages, players and reports of synthesis speak of: a candidate and its files, masks, the camera's path,
limits and checks, roles, the pairs that come of it. Nothing here knows who runs or plays what."""
