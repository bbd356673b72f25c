"""The work of `bench`, `sweep`, `report`, `verify` and `doctor`."""
