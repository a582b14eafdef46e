"""Where a system stands still: the search, the set of points, and the linear dynamics around them."""
