"""The sound of a clip: looked at while the clip is read, put into the file that is written.

    tracks (what the file holds, decoded once) -> plan (copied or encoded, by the output's container) -> feed (packets)
                    decode (frames, set-up by set-up) -> timeline (one set-up, no gaps) -> encoder

What cannot be kept never costs the pictures: it is left out, or silent, and a note says so.
"""
