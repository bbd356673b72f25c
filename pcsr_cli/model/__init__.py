"""What a PCSR network is: its spec, its layers, its weights and where they come from."""
