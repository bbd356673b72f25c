"""The work of `bench`, `sweep`, `report`, `compare`, `verify` and `doctor`."""
