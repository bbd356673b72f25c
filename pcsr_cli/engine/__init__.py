"""The upscaling engine: takes an LR tensor and yields HR rows in order."""
