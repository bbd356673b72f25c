"""What pcsr stands on here: versions, device, cache, models, formats, and what to do about each shortfall."""
