"""How the weights that this repository carries were made and measured; no part of the product."""
