"""Where weights come from: weights.toml, the Hub, and the cache on disk."""
