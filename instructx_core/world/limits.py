"""The thresholds of the measure, all in one place: fixed before any model of this world was trained, never moved.

Place: limits -> areas, alternatives, success. Chosen with the ground truth, planted errors (planted.py), round trips of
true targets through JPEG and a VAE, and an eye on these; a test freezes them. Errors are mean |difference| over RGB in
[0, 1]; a share says how far a prediction lies on the way from the truth (0) to an alternative (1); half way, both are
equally near.
"""

from __future__ import annotations

CLEAR_CHANGE = 0.10  # an edit is only asked for if doing nothing makes at least this error in a region

# Nearer to the truth than to the alternative, with a margin: half way is 0.5.
NEAR = 0.45  # over all frames
NEAR_FRAME = 0.5  # in the worst frame, where one may be soft: still not nearer to the alternative
# An alternative that can't be seen is none: least energy of its difference, in pixels of full contrast, a squared unit.
VISIBLE = 0.1
# The same for alternatives of the whole picture: least root mean square of the difference.
VISIBLE_PICTURE = 0.02
VISIBLE_BLUR = 0.012  # and of what a blur by SOFT_RADIUS takes away: more than a camera's grain

# Error beyond the truth's own range in the 3x3 pixels around: what is merely soft, or half a pixel off, makes none.
THING_LIMIT = 0.05  # of a thing's visible pixels; the least contrast of a thing is 0.15
REGION_LIMIT = 0.05  # of a part that the edit changes
TILE_LIMIT = 0.035  # of a tile of the rest, averaged over a few pixels as the eye does
BLOCK_LIMIT = 0.07  # of a quarter of a tile, where a small thing may appear
GRAIN_LIMIT = 0.056  # of a tile, pixel by pixel: grain of 16 levels of 255 passes, of 24 it fails
GRAIN_RADIUS = 1.0  # units, of that average
FRAME_FACTOR = 1.6  # no single frame's error may exceed the limit times this
PART = 0.25  # of the most that a frame shows of a thing or a difference: frames with less are not judged on their own
TILE = 16.0  # units, side of a tile; tiles overlap by half
# How far on the way to a blurred truth: by degree what a person calls blurred.
SOFT = 0.65  # of its brightness
SOFT_COLOR = 0.9  # of its colours
SOFT_RADIUS = 2.0  # units, of the box blur that the softness is held against
SOFT_BASIS = 1.0  # units, of the blur that no alternative is blamed for
SHIFT = 4.0  # units, of a displacement that must be told
SIZE_FACTORS = (0.7, 1.4)  # of the radius, about a class of sizes smaller and larger
