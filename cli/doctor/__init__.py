"""`deepdefend doctor`: is this installation well, what is not, what that means, and how it is mended."""
