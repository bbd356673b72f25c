"""Pictures on disk: read as what they show, whatever their kind; written whole or not at all."""
