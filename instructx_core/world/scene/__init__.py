"""A scene without its picture or its words: canvas, colours, forms, grounds, things, and how one is drawn at random.

Below all of the world: render makes its picture, language/ its words, edits change it.

    canvas, palette -> distance (forms), grounds -> contents (Scene) -> draw (at random)
    noise, tints -> leaves, materials -> photographic -> grounds
"""
