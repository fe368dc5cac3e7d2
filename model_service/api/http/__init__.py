"""What every route shares: context, errors, limits, permissions, bodies, transfers."""
