"""The pictures in a clip's file: it is opened, its film is found and decoded, its frames become upright sRGB.

    container (opened, decoded), tracks (which one) -> timing (rate, length)
                    alpha, planes, colour, primaries, orientation -> video (frames -> pixels)

Below sound/, which reads the same file, and stream.py, where reading a clip comes together.
"""
