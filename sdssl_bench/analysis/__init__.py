"""What representations are like, layer by layer: similarity, alignment, uniformity, rank, maps.

Pure functions of feature arrays (`cka`, `uniformity`, `rank`, `embedding`), the images they are taken of
(`samples`, `pairs`), and pictures (`panels`). The tasks `analysis` and `cka` put them together.
"""
