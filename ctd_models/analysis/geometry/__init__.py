"""How fixed points hang together: lines, rings and slow manifolds, connections, basins and bifurcations."""
