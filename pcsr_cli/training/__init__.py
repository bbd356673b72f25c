"""Training: the two stages of PCSR (Jeong et al., ECCV 2024, section 3.4 and the spec's section 5)."""
